//! The gRPC server: all services, health and reflection on every listener,
//! behind the gate.

use std::{sync::Arc, time::Duration};

use auditty_proto::v1::{
    self, alert_service_server::AlertServiceServer, audit_service_server::AuditServiceServer,
    coverage_service_server::CoverageServiceServer, evidence_service_server::EvidenceServiceServer,
    grant_service_server::GrantServiceServer, host_service_server::HostServiceServer,
    ingest_service_server::IngestServiceServer, login_service_server::LoginServiceServer,
    session_service_server::SessionServiceServer,
};
use futures::future::{BoxFuture, join_all, try_join_all};
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes, transport::Server};

use crate::{
    access::{self, Gate, Limits, Protocols, Tls, Tokens},
    alerts::{self, Alarm, Alerts},
    audit::{Audit, AuditLog},
    countersign::Countersigner,
    coverage::Coverage,
    evidence::Evidence,
    following::Following,
    grants::Grants,
    hearing::{self, Hearing},
    hosts::Hosts,
    ingest::Ingest,
    listen::{ListenAddress, Listener, Listeners},
    logins::Logins,
    query::Query,
    store::Store,
    webhook::{Pushes, Webhook},
};

/// Largest request, after decompression.
pub const MAX_REQUEST_LEN: usize = 4 * 1024 * 1024;
/// Requests one connection may have in work; more wait.
const REQUESTS_PER_CONNECTION: usize = 16;
/// Streams one connection may have open.
const STREAMS_PER_CONNECTION: u32 = 64;
/// Longest a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that vanished is noticed after the two together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long requests in work may go on after a shutdown began.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);
/// A connection ends after as long, and its client makes a new one: what its
/// certificate allowed is looked at again.
const CONNECTION_AGE: Duration = Duration::from_secs(3600);
/// Streams that a client reset before they were looked at; more end its
/// connection.
const PENDING_RESETS: usize = 20;

/// Why the server stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Reflection could not be set up.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("{address}: {source}")]
    Transport {
        /// Where.
        address: ListenAddress,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Who may connect, and how. By default only the machine's own users: root, and
/// the one that runs the collector.
#[derive(Debug, Default)]
pub struct Access {
    /// TLS on TCP listeners.
    pub tls: Option<Arc<Tls>>,
    /// Tokens that are taken.
    pub tokens: Arc<Tokens>,
    /// How much one caller may ask for.
    pub limits: Limits,
    /// How long a host may say nothing before its sessions are closed; without
    /// it they never are.
    pub silence: Option<Duration>,
    /// Where grants are pushed over plain HTTP.
    pub webhook: Option<Webhook>,
    /// What is an alert, and where alerts go.
    pub alarm: Alarm,
}

/// What every listener serves.
#[derive(Clone)]
struct Services {
    routes: Routes,
    gate: Gate,
    tls: Option<Arc<Tls>>,
}

/// Serves until `shutdown` is cancelled, then lets requests in work finish,
/// within a deadline. Unix sockets are removed at the end.
///
/// The future is boxed, or every program that serves would compile the server anew.
pub fn serve(
    listeners: Listeners,
    store: Store,
    signer: Countersigner,
    access: Access,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), ServeError>> {
    Box::pin(serve_all(listeners, store, signer, access, shutdown))
}

async fn serve_all(
    listeners: Listeners,
    store: Store,
    signer: Countersigner,
    access: Access,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let Access {
        tls,
        tokens,
        limits,
        silence,
        webhook,
        alarm,
    } = access;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<IngestServiceServer<Ingest>>().await;
    health.set_serving::<SessionServiceServer<Query>>().await;
    health.set_serving::<AuditServiceServer<Audit>>().await;
    health
        .set_serving::<EvidenceServiceServer<Evidence>>()
        .await;
    health.set_serving::<GrantServiceServer<Grants>>().await;
    health.set_serving::<HostServiceServer<Hosts>>().await;
    health.set_serving::<LoginServiceServer<Logins>>().await;
    health.set_serving::<AlertServiceServer<Alerts>>().await;
    health
        .set_serving::<CoverageServiceServer<Coverage>>()
        .await;
    let (audit, writing) = AuditLog::new(store.clone());
    let writing = tokio::spawn(writing);
    let (grants, following) = Grants::new(store.clone(), shutdown.clone());
    let (alerts, noticing_alerts) = Alerts::new(store.clone(), shutdown.clone());
    let (following_sessions, noticing_sessions) = Following::new(store.clone(), shutdown.clone());
    let latest_alert = alerts.latest().clone();
    let hearing = Hearing::default();
    let ingest = Ingest::new(
        store.clone(),
        signer.clone(),
        hearing.clone(),
        Arc::clone(&alarm.rules),
    );
    let mut routes = Routes::builder();
    routes
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(
            IngestServiceServer::new(ingest)
                .max_decoding_message_size(MAX_REQUEST_LEN)
                .accept_compressed(CompressionEncoding::Zstd)
                .accept_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            AuditServiceServer::new(Audit::new(store.clone()))
                .max_decoding_message_size(MAX_REQUEST_LEN)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            EvidenceServiceServer::new(Evidence::new(store.clone(), signer))
                .max_decoding_message_size(MAX_REQUEST_LEN)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            GrantServiceServer::new(grants.clone())
                .max_decoding_message_size(MAX_REQUEST_LEN)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            SessionServiceServer::new(Query::new(store.clone(), following_sessions))
                .max_decoding_message_size(MAX_REQUEST_LEN)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            HostServiceServer::new(Hosts::new(store.clone()))
                .max_decoding_message_size(MAX_REQUEST_LEN)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            LoginServiceServer::new(Logins::new(store.clone()))
                .max_decoding_message_size(MAX_REQUEST_LEN)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            AlertServiceServer::new(alerts)
                .max_decoding_message_size(MAX_REQUEST_LEN)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            CoverageServiceServer::new(Coverage::new(store.clone()))
                .max_decoding_message_size(MAX_REQUEST_LEN)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        );
    let gate = Gate::new(Arc::clone(&tokens), limits, audit);
    let end = &shutdown;
    let pushing = webhook.map(|Webhook { listeners, secrets }| {
        let pushes = Pushes::new(grants, gate.clone(), secrets);
        let bound = listeners.bound.into_iter();
        bound.map({
            let tls = tls.clone();
            move |(address, listener)| {
                serve_pushes(address, listener, pushes.clone(), tls.clone(), end)
            }
        })
    });
    let pushing = try_join_all(pushing.into_iter().flatten());
    let services = Services {
        routes: routes.routes(),
        gate,
        tls: tls.clone(),
    };
    let serving = listeners
        .bound
        .into_iter()
        .map(move |(address, listener)| serve_one(address, listener, services.clone(), end));
    let watching = async {
        let certificates = async {
            if let Some(tls) = &tls {
                tls.watch(&shutdown).await;
            }
        };
        let silence = async {
            if let Some(silence) = silence {
                hearing::watch(&store, silence, &shutdown).await;
            }
        };
        let heard = hearing.write(&store, &shutdown);
        let delivering = alarm.destinations.iter();
        let delivering = delivering
            .map(|destination| alerts::deliver(&store, destination, &latest_alert, &shutdown));
        tokio::join!(
            certificates,
            tokens.watch(&shutdown),
            following,
            noticing_alerts,
            noticing_sessions,
            heard,
            silence,
            alerts::watch_silence(&store, &hearing, alarm.silence, &shutdown),
            join_all(delivering),
        );
    };
    let serving = async {
        let served = async { tokio::try_join!(try_join_all(serving), pushing).map(|_| ()) };
        let (served, ()) = tokio::join!(served, watching);
        served
    };
    let served = tokio::select! {
        served = serving => served,
        () = deadline(&shutdown) => {
            tracing::warn!("requests still in work after {SHUTDOWN_DEADLINE:?} were dropped");
            Ok(())
        }
    };
    // Nobody asks any more; what was asked last is still being written.
    if tokio::time::timeout(SHUTDOWN_DEADLINE, writing)
        .await
        .is_err()
    {
        tracing::warn!("the last audit records were not written in time");
    }
    served
}

async fn deadline(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(SHUTDOWN_DEADLINE).await;
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// A server with what one connection may take, whatever it is for.
fn bounded() -> Server {
    Server::builder()
        .concurrency_limit_per_connection(REQUESTS_PER_CONNECTION)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .timeout(REQUEST_TIMEOUT)
        .max_connection_age(CONNECTION_AGE)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

async fn serve_one(
    address: ListenAddress,
    listener: Listener,
    services: Services,
    shutdown: &CancellationToken,
) -> Result<(), ServeError> {
    let secured = match (&listener, &services.tls) {
        (Listener::Tcp(_), Some(_)) => " with TLS",
        _ => "",
    };
    tracing::info!("listening on {address}{secured}");
    let served = bounded()
        .layer(services.gate)
        .add_routes(services.routes)
        .serve_with_incoming_shutdown(
            Box::pin(access::incoming(&listener, services.tls, Protocols::Grpc)),
            shutdown.cancelled(),
        )
        .await;
    // A socket's file goes with the listener.
    served.map_err(|source| ServeError::Transport { address, source })
}

/// The webhook, which is no gRPC service: what is sent there ends in `pushes`.
async fn serve_pushes(
    address: ListenAddress,
    listener: Listener,
    pushes: Pushes,
    tls: Option<Arc<Tls>>,
    shutdown: &CancellationToken,
) -> Result<(), ServeError> {
    tracing::info!("grants are pushed to {address}");
    let served = bounded()
        .accept_http1(true)
        .layer(pushes)
        .add_routes(Routes::default())
        .serve_with_incoming_shutdown(
            Box::pin(access::incoming(&listener, tls, Protocols::Http)),
            shutdown.cancelled(),
        )
        .await;
    served.map_err(|source| ServeError::Transport { address, source })
}

//! The gRPC server: both services, health and reflection on every listener.

use std::{future::Future, io, time::Duration};

use auditty_proto::v1::{
    self, ingest_service_server::IngestServiceServer, session_service_server::SessionServiceServer,
};
use futures::{Stream, StreamExt, future::try_join_all};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    codec::CompressionEncoding,
    service::Routes,
    transport::{Server, server::Connected},
};

use crate::{
    ingest::Ingest,
    listen::{ListenAddress, Listener, Listeners},
    query::Query,
    store::Store,
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
/// Pause after a failed accept, such as no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

/// Serves until `shutdown` is cancelled, then lets requests in work finish,
/// within a deadline. Unix sockets are removed at the end.
pub async fn serve(
    listeners: Listeners,
    store: Store,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<IngestServiceServer<Ingest>>().await;
    health.set_serving::<SessionServiceServer<Query>>().await;
    let mut routes = Routes::builder();
    routes
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(
            IngestServiceServer::new(Ingest::new(store.clone()))
                .max_decoding_message_size(MAX_REQUEST_LEN)
                .accept_compressed(CompressionEncoding::Zstd)
                .accept_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            SessionServiceServer::new(Query::new(store))
                .max_decoding_message_size(MAX_REQUEST_LEN)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        );
    let routes = routes.routes();
    let serving = listeners
        .bound
        .into_iter()
        .map(|(address, listener)| serve_one(address, listener, routes.clone(), &shutdown));
    tokio::select! {
        served = try_join_all(serving) => served.map(|_| ()),
        () = deadline(&shutdown) => {
            tracing::warn!("requests still in work after {SHUTDOWN_DEADLINE:?} were dropped");
            Ok(())
        }
    }
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

async fn serve_one(
    address: ListenAddress,
    listener: Listener,
    routes: Routes,
    shutdown: &CancellationToken,
) -> Result<(), ServeError> {
    tracing::info!("listening on {address}");
    let end = shutdown.cancelled();
    let served = match listener {
        // The file goes when the listener is done.
        Listener::Unix(unix, _file) => serve_on(UnixListenerStream::new(unix), routes, end).await,
        Listener::Tcp(tcp) => serve_on(TcpListenerStream::new(tcp), routes, end).await,
    };
    served.map_err(|source| ServeError::Transport { address, source })
}

async fn serve_on<C>(
    connections: impl Stream<Item = io::Result<C>>,
    routes: Routes,
    end: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Connected + Unpin + Send + 'static,
{
    let connections = connections.filter_map(async |accepted| match accepted {
        Ok(connection) => Some(Ok::<_, io::Error>(connection)),
        Err(error) => {
            tracing::warn!("a connection was not accepted: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    });
    Server::builder()
        .concurrency_limit_per_connection(REQUESTS_PER_CONNECTION)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .timeout(REQUEST_TIMEOUT)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections, end)
        .await
}

//! The one way to every service: who is it, may it call this method, has it
//! not called too often. What it asked is an audit record before the answer goes
//! out, and so is a refusal.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use auditty_proto::{
    access::{self, Method},
    convert, json, v1,
};
use prost::{Message, Name};
use tonic::{
    Code, Request, Status,
    body::Body,
    codegen::http::{
        HeaderMap, Request as HttpRequest, Response,
        header::{AUTHORIZATION, USER_AGENT},
    },
};
use tower::{Layer, Service};

use crate::audit::AuditLog;
use uuid::Uuid;

use super::{Limits, Peer, Principal, Tokens, limits::Buckets};

/// What anybody may ask: load balancers and orchestrators have no identity.
const OPEN: &str = "/grpc.health.v1.Health/";
/// What everybody may ask who is somebody: the schema itself is public.
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];
/// Longest name of a program or method in a record, in bytes.
const MAX_NAME_LEN: usize = 256;
/// Longest description of a request, in bytes.
const MAX_ASKED_LEN: usize = 4096;

/// Stands before all services. Clones share everything.
#[derive(Clone, Debug)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tokens: Arc<Tokens>,
    buckets: Buckets,
    audit: AuditLog,
    /// Bounds what a flood of refused calls leaves in the database.
    refusals: Buckets,
    unrecorded_refusals: AtomicU64,
}

impl Gate {
    /// Takes these tokens, beside what connections prove.
    pub fn new(tokens: Arc<Tokens>, limits: Limits, audit: AuditLog) -> Self {
        Self {
            shared: Arc::new(Shared {
                tokens,
                buckets: Buckets::new(limits),
                audit,
                refusals: Buckets::new(REFUSALS),
                unrecorded_refusals: AtomicU64::new(0),
            }),
        }
    }
}

/// For requests that are no gRPC calls.
impl Gate {
    /// Who sent a request, if it may call the method at `path`.
    pub(crate) fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<Principal, (Option<Principal>, Status)> {
        let principal = self.shared.admit(path, headers, peer)?;
        principal.ok_or_else(|| {
            let status = Status::unauthenticated("who you are is not known");
            (None, status)
        })
    }

    /// Takes a request from what somebody may ask for who proved nothing yet.
    pub(crate) fn take(&self, peer: &Peer) -> Result<(), Status> {
        let caller = match peer.ip {
            Some(address) => address.ip().to_string(),
            None => peer.address.clone(),
        };
        match self.shared.buckets.take(&caller, Instant::now()) {
            true => Ok(()),
            false => Err(Status::resource_exhausted(TOO_MANY)),
        }
    }

    /// The record of a request, as far as it is known before it is answered.
    pub(crate) fn record(
        method: &str,
        headers: &HeaderMap,
        peer: &Peer,
        principal: Option<&Principal>,
    ) -> v1::AuditRecord {
        record(method, headers, peer, principal)
    }

    /// Records what was asked and what came of it. Without the record there is
    /// no answer.
    pub(crate) async fn answered(
        &self,
        record: v1::AuditRecord,
        asked: &str,
        problem: Option<&Status>,
    ) -> Result<(), Status> {
        let asked = asked.get(..asked.floor_char_boundary(MAX_ASKED_LEN));
        let asked = asked.unwrap_or_default().to_owned();
        self.shared.conclude(record, asked, problem).await
    }

    /// Records a refused request, or counts it.
    pub(crate) async fn refused(&self, record: v1::AuditRecord, status: &Status) {
        self.shared.refused(record, status).await;
    }
}

/// What is said to who asks too often.
const TOO_MANY: &str = "too many requests; wait a moment";

/// Refused calls of one caller that are recorded, the others are counted.
const REFUSALS: Limits = Limits {
    requests_per_second: 1.0,
    burst: 20.0,
};

/// What a request asks for; the service says it, since only it reads messages.
#[derive(Clone, Debug, Default)]
pub struct Asked(Arc<Mutex<String>>);

impl Asked {
    fn text(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes a request before it is answered.
    pub fn note<T: Message + Name>(request: &Request<T>) {
        if let Some(asked) = request.extensions().get::<Self>() {
            let mut text = json::to_string(request.get_ref()).unwrap_or_default();
            let end = text.floor_char_boundary(MAX_ASKED_LEN);
            text.truncate(end);
            *asked.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    }
}

impl Shared {
    /// Records an answered call; without its record it gets no answer.
    async fn answered(
        &self,
        record: v1::AuditRecord,
        asked: &Asked,
        answer: Response<Body>,
    ) -> Response<Body> {
        let status = Status::from_header_map(answer.headers());
        match self.conclude(record, asked.text(), status.as_ref()).await {
            Ok(()) => answer,
            Err(status) => status.into_http(),
        }
    }

    async fn conclude(
        &self,
        mut record: v1::AuditRecord,
        asked: String,
        status: Option<&Status>,
    ) -> Result<(), Status> {
        record.outcome = code_name(status.map_or(Code::Ok, Status::code));
        record.detail = status.map_or_else(String::new, |status| status.message().to_owned());
        record.request = asked;
        self.audit.record(record).await
    }

    /// Records a refused call, or counts it.
    async fn refused(&self, mut record: v1::AuditRecord, status: &Status) {
        let caller = match record.caller.is_empty() {
            true => record.address.rsplit_once(':').map_or("", |(host, _)| host),
            false => &record.caller,
        };
        if !self.refusals.take(caller, Instant::now()) {
            self.unrecorded_refusals.fetch_add(1, Ordering::Relaxed);
            return;
        }
        record.outcome = code_name(status.code());
        record.detail = status.message().to_owned();
        record.unrecorded_refusal_count = self.unrecorded_refusals.swap(0, Ordering::Relaxed);
        // It is refused all the same; the log of the program has it.
        let _ = self.audit.record(record).await;
    }

    /// Who sent a request, if it may be answered. `Ok(None)` is anybody.
    fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<Option<Principal>, (Option<Principal>, Status)> {
        let nobody = |status| (None, status);
        if path.starts_with(OPEN) {
            return Ok(None);
        }
        let principal = self.who(headers, peer);
        let caller = match (&principal, peer.ip) {
            (Ok(principal), _) => format!("{}/{}", principal.tenant(), principal.name),
            (Err(_), Some(address)) => address.ip().to_string(),
            (Err(_), None) => peer.address.clone(),
        };
        if !self.buckets.take(&caller, Instant::now()) {
            let status = Status::resource_exhausted(TOO_MANY);
            return Err((principal.ok(), status));
        }
        let principal = principal.map_err(nobody)?;
        if REFLECTION.iter().any(|service| path.starts_with(service)) {
            return Ok(Some(principal));
        }
        let Some(method) = access::method(path) else {
            let status = Status::unimplemented("there is no such method");
            return Err((Some(principal), status));
        };
        match principal.is_any_of(method.roles) {
            true => Ok(Some(principal)),
            false => {
                let status = denied(&principal, method);
                Err((Some(principal), status))
            }
        }
    }

    /// A token, where there is one, wins over the connection: with it a person
    /// goes through a proxy that has a certificate of its own.
    fn who(&self, headers: &HeaderMap, peer: &Peer) -> Result<Principal, Status> {
        let unknown = |problem: &str| {
            Status::unauthenticated(format!(
                "{problem}; show a client certificate or a bearer token"
            ))
        };
        let Some(value) = headers.get(AUTHORIZATION) else {
            return peer.principal.clone().ok_or_else(|| {
                unknown(
                    peer.problem
                        .as_deref()
                        .unwrap_or("who you are is not known"),
                )
            });
        };
        let value = value.to_str().unwrap_or_default();
        let token = value
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        let token =
            token.ok_or_else(|| unknown("the authorization is not of the scheme Bearer"))?;
        self.tokens
            .principal(token)
            .map_err(|problem| unknown(&problem))
    }
}

/// The record of a call, as far as it is known before it is answered.
fn record(
    path: &str,
    headers: &HeaderMap,
    peer: &Peer,
    principal: Option<&Principal>,
) -> v1::AuditRecord {
    let id = Uuid::now_v7();
    let user_agent = headers
        .get(USER_AGENT)
        .and_then(|value| value.to_str().ok());
    let shortened = |text: &str| {
        text.get(..text.floor_char_boundary(MAX_NAME_LEN))
            .map(str::to_owned)
    };
    v1::AuditRecord {
        name: format!("auditRecords/{id}"),
        audit_id: id.to_string(),
        time: Some(convert::timestamp(jiff::Timestamp::now())),
        caller: principal.map_or_else(String::new, |principal| principal.name.clone()),
        tenant: principal.map_or_else(String::new, |principal| principal.tenant().to_owned()),
        roles: principal.map_or_else(Vec::new, |principal| {
            principal.roles.iter().map(|role| *role as i32).collect()
        }),
        proof: principal.map_or_else(String::new, |principal| principal.proof.to_string()),
        address: peer.address.clone(),
        user_agent: user_agent.and_then(shortened).unwrap_or_default(),
        purpose: purpose(headers).unwrap_or_default().to_owned(),
        method: shortened(path.trim_start_matches('/')).unwrap_or_default(),
        ..v1::AuditRecord::default()
    }
}

/// What the caller says a call is for; what is no word is not kept.
fn purpose(headers: &HeaderMap) -> Option<&str> {
    let purpose = headers.get(access::PURPOSE)?.to_str().ok()?;
    let of_word = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let is_word = purpose.len() <= access::MAX_PURPOSE_LEN && purpose.bytes().all(of_word);
    is_word.then_some(purpose)
}

/// `PERMISSION_DENIED` for `PermissionDenied`.
pub(crate) fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn denied(principal: &Principal, method: &Method) -> Status {
    let path = method.path.rsplit('/').next().unwrap_or_default();
    Status::permission_denied(format!(
        "{} may not call {path}: its role is {}",
        principal.name,
        principal.role_names()
    ))
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated {
            shared: Arc::clone(&self.shared),
            inner,
        }
    }
}

/// A service behind the gate.
#[derive(Clone, Debug)]
pub struct Gated<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S> Service<HttpRequest<Body>> for Gated<S>
where
    S: Service<HttpRequest<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: HttpRequest<Body>) -> Self::Future {
        // The one that is ready is this one; the clone will be asked first.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let peer = request.extensions().get::<Arc<Peer>>().cloned();
            let Some(peer) = peer else {
                let status = Status::internal("the connection is not known");
                return Ok(status.into_http());
            };
            match shared.admit(&path, request.headers(), &peer) {
                Ok(principal) => {
                    let recorded = access::method(&path).is_some_and(|method| method.recorded);
                    let record = recorded
                        .then(|| record(&path, request.headers(), &peer, principal.as_ref()));
                    if let Some(principal) = principal {
                        request.extensions_mut().insert(principal);
                    }
                    let asked = Asked::default();
                    request.extensions_mut().insert(asked.clone());
                    let answer = inner.call(request).await?;
                    Ok(match record {
                        Some(record) => shared.answered(record, &asked, answer).await,
                        None => answer,
                    })
                }
                Err((principal, status)) => {
                    let record = record(&path, request.headers(), &peer, principal.as_ref());
                    tracing::info!(
                        peer = peer.address,
                        path,
                        caller = record.caller,
                        "refused: {}",
                        status.message()
                    );
                    shared.refused(record, &status).await;
                    Ok(status.into_http())
                }
            }
        })
    }
}

//! `POST /v1/grants`: how access platforms without gRPC push grants. The body is
//! JSON, the model that of a grant file: one grant, a list of them, or
//! `{"grants": [ … ]}`. With `revoked_at` a grant that is there is revoked.
//!
//! Who pushes is said by a bearer token or client certificate, as over gRPC, or
//! by a [`signature`]. The answer has the grants as they are kept; an error says
//! what is wrong, and the same request may be sent again after any of them.

mod signature;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use auditty_grants::file;
use auditty_proto::{json, v1};
use jiff::Timestamp;
use serde_json::{Value, json};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        Body as _,
        http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header},
    },
};
use tower::{Layer, Service};

use crate::{
    access::{Gate, Peer, Principal, code_name},
    grants::Grants,
    listen::Listeners,
};

pub(crate) use signature::{HEADER as SIGNATURE_HEADER, SharedSecret};
pub use signature::{SecretError, SecretFile, Secrets};

/// The one path.
const PATH: &str = "/v1/grants";
/// What a push is allowed as.
const CREATE: &str = "/auditty.v1.GrantService/CreateGrant";
/// How a push is called in audit records.
const METHOD: &str = "POST /v1/grants";
/// Largest body, as of a grant file.
const MAX_BODY_LEN: usize = 1024 * 1024;
/// Longest time a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Where pushes are taken, and whose signatures.
#[derive(Debug)]
pub struct Webhook {
    /// Where.
    pub listeners: Listeners,
    /// Whose.
    pub secrets: Secrets,
}

/// Answers every request of its listeners.
#[derive(Clone, Debug)]
pub(crate) struct Pushes {
    grants: Grants,
    gate: Gate,
    secrets: Arc<Secrets>,
}

impl Pushes {
    pub(crate) fn new(grants: Grants, gate: Gate, secrets: Secrets) -> Self {
        Self {
            grants,
            gate,
            secrets: Arc::new(secrets),
        }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let Some(peer) = peer else {
            return error(&Status::internal("the connection is not known"));
        };
        if request.uri().path() != PATH {
            let only = format!("there is nothing but POST {PATH}");
            return error(&Status::not_found(only));
        }
        if request.method() != Method::POST {
            let mut answer = error(&Status::unimplemented("only POST is known here"));
            *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            let headers = answer.headers_mut();
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            return answer;
        }
        let (parts, body) = request.into_parts();
        let admitted = self.admit(&parts.headers, &peer, body).await;
        let (principal, body) = match admitted {
            Ok(admitted) => admitted,
            Err((principal, status)) => {
                let refused = Gate::record(METHOD, &parts.headers, &peer, principal.as_ref());
                self.gate.refused(refused, &status).await;
                return error(&status);
            }
        };
        let record = Gate::record(METHOD, &parts.headers, &peer, Some(&principal));
        let created = self.create(&principal, &body).await;
        let asked = String::from_utf8_lossy(&body);
        let outcome = created.as_ref().err();
        if let Err(status) = self.gate.answered(record, &asked, outcome).await {
            return error(&status);
        }
        match created {
            Ok(grants) => reply(StatusCode::OK, &json!({ "grants": grants })),
            Err(status) => error(&status),
        }
    }

    /// Who pushes what. Nothing large is read from somebody who is nobody, but
    /// where the body itself proves who it is.
    async fn admit(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        body: Body,
    ) -> Result<(Principal, Vec<u8>), (Option<Principal>, Status)> {
        let Some(signature) = headers.get(signature::HEADER) else {
            let principal = self.gate.admit(CREATE, headers, peer)?;
            let body = read(body).await;
            return body
                .map(|body| (principal.clone(), body))
                .map_err(|status| (Some(principal), status));
        };
        let nobody = |status| (None, status);
        self.gate.take(peer).map_err(nobody)?;
        let body = read(body).await.map_err(nobody)?;
        let signature = signature.to_str().unwrap_or_default();
        let now = Timestamp::now().as_second();
        let principal = self.secrets.principal(signature, &body, now);
        let principal = principal.map_err(|problem| nobody(Status::unauthenticated(problem)))?;
        Ok((principal, body))
    }

    /// Creates the grants of a body one after the other.
    async fn create(&self, caller: &Principal, body: &[u8]) -> Result<Vec<Value>, Status> {
        let text =
            str::from_utf8(body).map_err(|_| Status::invalid_argument("the body is not UTF-8"))?;
        let rules = file::parse(Path::new("body.json"), text)
            .map_err(|fault| Status::invalid_argument(fault.to_string()))?;
        let mut kept = Vec::with_capacity(rules.len());
        for rule in rules {
            let created = self.grants.create(caller, &rule.to_message()).await;
            let grant = created.map_err(|status| {
                let place = format!("{:?}: {}", rule.grant.request_id, status.message());
                Status::new(status.code(), place)
            })?;
            let grant: Result<_, _> = json::to_value::<v1::AccessGrant>(&grant);
            kept.push(grant.map_err(|error| Status::internal(error.to_string()))?);
        }
        Ok(kept)
    }
}

/// Reads a body, within bounds of size and time.
async fn read(mut body: Body) -> Result<Vec<u8>, Status> {
    let reading = async {
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            let frame = frame.map_err(|_| Status::cancelled("the body ends too early"))?;
            if let Ok(part) = frame.into_data() {
                bytes.extend_from_slice(&part);
            }
            if bytes.len() > MAX_BODY_LEN {
                return Err(Status::out_of_range(format!(
                    "the body is larger than {MAX_BODY_LEN} bytes"
                )));
            }
        }
        Ok(bytes)
    };
    let late = || Status::deadline_exceeded(format!("the body took more than {BODY_TIMEOUT:?}"));
    tokio::time::timeout(BODY_TIMEOUT, reading)
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn error(status: &Status) -> Response<Body> {
    let code = match status.code() {
        Code::InvalidArgument | Code::Cancelled => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::DeadlineExceeded => StatusCode::REQUEST_TIMEOUT,
        Code::AlreadyExists => StatusCode::CONFLICT,
        Code::OutOfRange => StatusCode::PAYLOAD_TOO_LARGE,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let told =
        json!({ "error": { "code": code_name(status.code()), "message": status.message() } });
    reply(code, &told)
}

fn reply(code: StatusCode, told: &Value) -> Response<Body> {
    let mut answer = Response::new(Body::new(format!("{told}\n")));
    *answer.status_mut() = code;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}

/// Stands in the place of all services.
impl<S> Layer<S> for Pushes {
    type Service = Self;

    fn layer(&self, _: S) -> Self {
        self.clone()
    }
}

impl Service<Request<Body>> for Pushes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let pushes = self.clone();
        Box::pin(async move { Ok(pushes.answer(request).await) })
    }
}

//! A collector over gRPC.

use std::path::Path;
use std::time::Duration;

use auditty_proto::access::PURPOSE;
use auditty_proto::names;
use auditty_proto::v1;
use auditty_proto::v1::audit_service_client::AuditServiceClient;
use auditty_proto::v1::evidence_service_client::EvidenceServiceClient;
use auditty_proto::v1::session_service_client::SessionServiceClient;
use hyper_util::rt::TokioIo;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint, Uri};
use tonic::{Code, Request, Status};

use crate::config::Identity;
use crate::failure::{self, Failure, Result};

/// Longest wait for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for one answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer, bytes: 1000 commands of 32 KiB.
pub(super) const MAX_ANSWER_BYTES: usize = 64 << 20;

const HINT: &str = "is it running, and may you reach it? --collector ADDR asks another one, \
                    --store URL reads a bucket or folder without any collector";

/// A collector.
pub struct Collector {
    address: String,
    client: SessionServiceClient<Known>,
    audit: AuditServiceClient<Known>,
    evidence: EvidenceServiceClient<Known>,
}

/// A connection that shows who asks with every call, and what for.
pub(super) type Known = InterceptedService<Channel, Bearer>;

/// Shows a token with every call, and says what the call is for.
#[derive(Clone)]
pub(super) struct Bearer {
    token: Option<AsciiMetadataValue>,
    purpose: Option<AsciiMetadataValue>,
}

impl Bearer {
    fn new(identity: &Identity) -> Result<Self> {
        let token = identity.token.as_deref();
        let header = token.map(|token| format!("Bearer {token}").parse());
        let token = header
            .transpose()
            .map_err(|_| Failure::usage("--token: has characters that no token has"))?;
        Ok(Self {
            token,
            purpose: identity.purpose.parse().ok(),
        })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        let headers = request.metadata_mut();
        if let Some(token) = &self.token {
            headers.insert("authorization", token.clone());
        }
        if let Some(purpose) = &self.purpose {
            headers.insert(PURPOSE, purpose.clone());
        }
        Ok(request)
    }
}

impl Collector {
    /// Connects to `unix:/path`, `http://host:port` or `https://host:port`.
    pub async fn connect(address: &str, identity: &Identity) -> Result<Self> {
        let channel = connect(address, identity).await?;
        Ok(Self {
            address: address.to_owned(),
            evidence: EvidenceServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_ANSWER_BYTES),
            client: SessionServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_ANSWER_BYTES),
            audit: AuditServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES),
        })
    }

    pub(super) async fn list_sessions(
        &mut self,
        request: v1::ListSessionsRequest,
    ) -> Result<v1::ListSessionsResponse> {
        let answer = self.client.list_sessions(request).await;
        Ok(answer.map_err(|status| self.failure(&status))?.into_inner())
    }

    pub(super) async fn get_session(&mut self, id: &str) -> Result<v1::Session> {
        let name = names::session_name(id);
        let answer = self
            .client
            .get_session(v1::GetSessionRequest { name })
            .await;
        let answer = answer.map_err(|status| self.failure(&status))?.into_inner();
        answer
            .session
            .ok_or_else(|| Failure::error(format!("{} answered without a session", self.address)))
    }

    pub(super) async fn list_commands(
        &mut self,
        request: v1::ListCommandsRequest,
    ) -> Result<v1::ListCommandsResponse> {
        let answer = self.client.list_commands(request).await;
        Ok(answer.map_err(|status| self.failure(&status))?.into_inner())
    }

    pub(super) async fn list_activities(
        &mut self,
        request: v1::ListActivitiesRequest,
    ) -> Result<v1::ListActivitiesResponse> {
        let answer = self.client.list_activities(request).await;
        Ok(answer.map_err(|status| self.failure(&status))?.into_inner())
    }

    pub(super) async fn list_audit_records(
        &mut self,
        request: v1::ListAuditRecordsRequest,
    ) -> Result<v1::ListAuditRecordsResponse> {
        let answer = self.audit.list_audit_records(request).await;
        Ok(answer.map_err(|status| self.failure(&status))?.into_inner())
    }

    /// A page of receipts.
    ///
    /// # Errors
    /// The collector failed, or refuses.
    pub async fn list_receipts(
        &mut self,
        request: v1::ListReceiptsRequest,
    ) -> Result<v1::ListReceiptsResponse> {
        let answer = self.evidence.list_receipts(request).await;
        Ok(answer.map_err(|status| self.failure(&status))?.into_inner())
    }

    /// The public key that signs receipts.
    ///
    /// # Errors
    /// The collector failed, or refuses.
    pub async fn public_key(&mut self) -> Result<String> {
        let request = v1::GetCollectorKeyRequest {};
        let answer = self.evidence.get_collector_key(request).await;
        let answer = answer.map_err(|status| self.failure(&status))?;
        Ok(answer.into_inner().public_key)
    }

    /// A page of the keys that hosts have registered.
    ///
    /// # Errors
    /// The collector failed, or refuses.
    pub async fn list_host_keys(
        &mut self,
        request: v1::ListHostKeysRequest,
    ) -> Result<v1::ListHostKeysResponse> {
        let answer = self.evidence.list_host_keys(request).await;
        Ok(answer.map_err(|status| self.failure(&status))?.into_inner())
    }

    /// Reports what a verification has found wrong.
    ///
    /// # Errors
    /// The collector failed, or refuses.
    pub async fn report_findings(&mut self, request: v1::ReportFindingsRequest) -> Result<()> {
        let answer = self.evidence.report_findings(request).await;
        answer.map(|_| ()).map_err(|status| self.failure(&status))
    }

    /// Accepts a key that a host has reported; how many count from now on.
    ///
    /// # Errors
    /// There is no such key, or the collector failed, or refuses.
    pub async fn accept_host_key(&mut self, request: v1::AcceptHostKeyRequest) -> Result<u32> {
        let answer = self.evidence.accept_host_key(request).await;
        let answer = answer.map_err(|status| self.failure(&status))?;
        Ok(answer.into_inner().accepted_count)
    }

    /// A page of the digests that hosts have reported.
    ///
    /// # Errors
    /// The collector failed, or refuses.
    pub async fn list_digest_heads(
        &mut self,
        request: v1::ListDigestHeadsRequest,
    ) -> Result<v1::ListDigestHeadsResponse> {
        let answer = self.evidence.list_digest_heads(request).await;
        Ok(answer.map_err(|status| self.failure(&status))?.into_inner())
    }

    fn failure(&self, status: &Status) -> Failure {
        failed(&self.address, status)
    }
}

/// What the collector at `address` means by a status.
pub(super) fn failed(address: &str, status: &Status) -> Failure {
    let message = status.message();
    match status.code() {
        Code::NotFound => Failure::not_found(message),
        Code::InvalidArgument | Code::AlreadyExists => Failure::usage(message),
        Code::PermissionDenied | Code::Unauthenticated => {
            Failure::error(format!("the collector at {address} refuses: {message}"))
        }
        code => Failure::error(format!(
            "the collector at {address} failed: {code}: {message}"
        ))
        .hint(HINT),
    }
}

/// Connects to `unix:/path`, `http://host:port` or `https://host:port`.
pub(super) async fn connect(address: &str, identity: &Identity) -> Result<Known> {
    let bearer = Bearer::new(identity)?;
    let connected = match address.strip_prefix("unix:") {
        Some(path) => connect_unix(path.trim_start_matches("//").to_owned()).await,
        None => connect_tcp(address, identity).await?,
    };
    let channel = connected.map_err(|error| {
        let reason = failure::chain(&error);
        Failure::error(format!("cannot reach the collector at {address}: {reason}")).hint(HINT)
    })?;
    Ok(InterceptedService::new(channel, bearer))
}

type Connected = std::result::Result<Channel, transport::Error>;

async fn connect_tcp(address: &str, identity: &Identity) -> Result<Connected> {
    let wrong = |reason: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "`{address}` is not a collector's address: {reason}"
        ))
        .hint("give unix:/path, http://host:port or https://host:port")
    };
    if !address.starts_with("http://") && !address.starts_with("https://") {
        return Err(wrong(&"its scheme is unknown"));
    }
    let mut endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|error| wrong(&error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT);
    if address.starts_with("https://") {
        endpoint = endpoint
            .tls_config(tls(identity)?)
            .map_err(|error| wrong(&failure::chain(&error)))?;
    }
    Ok(endpoint.connect().await)
}

fn tls(identity: &Identity) -> Result<ClientTlsConfig> {
    let read = |option: &str, path: &Path| {
        std::fs::read(path)
            .map_err(|error| Failure::usage(format!("{option}: {}: {error}", path.display())))
    };
    let mut tls = ClientTlsConfig::new();
    tls = match &identity.ca {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read("--ca", path)?)),
        None => tls.with_enabled_roots(),
    };
    if let Some((certificate, key)) = &identity.certificate {
        let (certificate, key) = (read("--cert", certificate)?, read("--key", key)?);
        tls = tls.identity(transport::Identity::from_pem(certificate, key));
    }
    Ok(tls)
}

async fn connect_unix(path: String) -> Connected {
    // The authority is never looked up: the connector goes to the socket.
    Endpoint::from_static("http://collector.invalid")
        .timeout(CALL_TIMEOUT)
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(path).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        }))
        .await
}

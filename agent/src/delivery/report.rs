//! Sends the outbox to the collector, in order.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use auditty_proto::v1::ingest_service_client::IngestServiceClient;
use auditty_proto::v1::{HostReport, ReportRequest};
use prost::Message as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::backoff::Backoff;
use super::files::{SpoolError, delete, write_whole};
use super::outbox::OutboxState;

/// After so long without a report, the collector hears that the recorder is
/// there: it notices the silence of a host within half a minute.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A recorder looks at the spool several times a second; after so long without,
/// it is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// Sends reports until it is stopped. What the collector refuses, while it takes
/// heartbeats, goes to the dead letters; everything else is tried for ever.
pub struct Reporter {
    outbox: Arc<OutboxState>,
    client: IngestServiceClient<Channel>,
    /// What the host is and how it records, when that is known.
    host: Option<watch::Receiver<Option<HostReport>>>,
    /// The trouble last logged.
    trouble: Option<Code>,
}

impl Reporter {
    /// Will send `outbox` over `channel`.
    pub fn new(outbox: Arc<OutboxState>, channel: Channel) -> Self {
        Self {
            outbox,
            client: IngestServiceClient::new(channel),
            host: None,
            trouble: None,
        }
    }

    /// Will also say what the host is and how it records.
    pub fn saying(self, host: watch::Receiver<Option<HostReport>>) -> Self {
        Self {
            host: Some(host),
            ..self
        }
    }

    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        // A request that is cut off is sent again by the next agent.
        let _ = stop.run_until_cancelled(self.send_all()).await;
    }

    async fn send_all(&mut self) {
        let mut written = self.outbox.written.subscribe();
        let mut said = self.host.clone();
        let mut number = self.outbox.first;
        loop {
            let host = self.host.as_ref();
            if host.is_some_and(|host| host.has_changed().unwrap_or(false)) {
                self.say().await;
            }
            let news = async {
                let news = written.wait_for(|written| *written >= number).await;
                news.is_ok()
            };
            tokio::select! {
                news = tokio::time::timeout(HEARTBEAT, news) => match news {
                    Err(_) => {
                        self.say().await;
                        continue;
                    }
                    Ok(true) => {}
                    // The sender lives in the outbox, which this task holds.
                    Ok(false) => return,
                },
                () = change(said.as_mut()) => continue,
            }
            let mut backoff = Backoff::default();
            while let Err(error) = self.send_batch(number, &mut backoff).await {
                tracing::error!(%error, "a batch of reports cannot be taken from the outbox");
                tokio::time::sleep(backoff.pause()).await;
            }
            self.outbox.acknowledged.send_replace(number);
            number += 1;
        }
    }

    /// Says that the recorder is there, when there is nothing else to say.
    async fn say(&mut self) {
        match self.beat().await {
            Ok(true) => self.taken(),
            Ok(false) => {}
            Err(status) => self.note(&status),
        }
    }

    /// Says that the recorder is there, where it is. One that is stuck is not
    /// vouched for by the rest of the agent: nothing is said then.
    async fn beat(&mut self) -> Result<bool, Status> {
        if self.outbox.idle() > STUCK {
            return Ok(false);
        }
        let request = ReportRequest {
            host_id: self.outbox.host_id.clone(),
            boot_id: self.outbox.boot_id.clone(),
            reports: Vec::new(),
            host: self.host.as_ref().and_then(|host| host.borrow().clone()),
        };
        let said = request.host.is_some();
        self.client.report(request).await?;
        if let Some(host) = self.host.as_mut().filter(|_| said) {
            host.mark_unchanged();
        }
        Ok(true)
    }

    /// Pauses, and says meanwhile that the recorder is there: whatever keeps the
    /// reports waiting, the host is not silent. Whether the collector takes that.
    async fn rest(&mut self, mut pause: Duration) -> bool {
        loop {
            let part = pause.min(HEARTBEAT);
            tokio::time::sleep(part).await;
            pause -= part;
            let heard = self.beat().await.unwrap_or(false);
            if heard || pause.is_zero() {
                return heard;
            }
        }
    }

    /// Sends a batch until the collector has it, or will never take it.
    async fn send_batch(&mut self, number: u64, backoff: &mut Backoff) -> Result<(), SpoolError> {
        let path = self.outbox.batch(number);
        let encoded = match fs::read(&path) {
            Ok(encoded) => encoded,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(SpoolError::new("read", &path, error)),
        };
        match ReportRequest::decode(encoded.as_slice()) {
            Ok(request) => {
                let refused = self.deliver(request, backoff).await;
                if !refused.reports.is_empty() {
                    self.bury(number, &refused.encode_to_vec())?;
                    self.outbox.count_refused(refused.reports.len());
                }
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a batch of reports is damaged: it goes to the dead letters");
                self.bury(number, &encoded)?;
                self.outbox.count_refused(1);
            }
        }
        delete(&path)?;
        self.outbox.usage.remove(encoded.len() as u64);
        Ok(())
    }

    /// Sends a request until the collector has it. What it refuses is looked at
    /// report by report; those it does not take come back.
    async fn deliver(&mut self, request: ReportRequest, backoff: &mut Backoff) -> ReportRequest {
        let mut refused = ReportRequest {
            reports: Vec::new(),
            ..request.clone()
        };
        let Err(status) = self.send(&request, backoff, false).await else {
            return refused;
        };
        let denied = status.code() == Code::PermissionDenied;
        if request.reports.len() > 1 {
            for report in request.reports {
                let single = ReportRequest {
                    reports: vec![report],
                    ..refused.clone()
                };
                if let Err(status) = self.send(&single, backoff, denied).await {
                    log_refusal(&status);
                    refused.reports.extend(single.reports);
                }
            }
        } else {
            log_refusal(&status);
            refused.reports = request.reports;
        }
        refused
    }

    /// Sends until there is an answer that trying again does not change. That
    /// something is not permitted is one when the collector `hears` this agent
    /// otherwise: then it does not want the report, such as one of a host that this
    /// was before.
    async fn send(
        &mut self,
        request: &ReportRequest,
        backoff: &mut Backoff,
        mut hears: bool,
    ) -> Result<(), Status> {
        loop {
            let Err(status) = self.client.report(request.clone()).await else {
                self.taken();
                return Ok(());
            };
            match status.code() {
                Code::InvalidArgument => return Err(status),
                Code::PermissionDenied if hears => return Err(status),
                _ => self.note(&status),
            }
            hears = self.rest(backoff.pause()).await;
        }
    }

    fn taken(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the collector takes reports again");
        }
    }

    fn note(&mut self, status: &Status) {
        if self.trouble.replace(status.code()) == Some(status.code()) {
            return;
        }
        let (code, message) = (status.code(), status.message().escape_debug());
        match code {
            Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => {
                tracing::error!(?code, %message, "the collector refuses this agent; reports wait in the outbox");
            }
            _ => {
                tracing::warn!(?code, %message, "the collector does not take reports; they wait in the outbox")
            }
        }
    }

    fn bury(&self, number: u64, encoded: &[u8]) -> Result<(), SpoolError> {
        write_whole(
            &self.outbox.dead_letters.join(format!("{number:020}.pb")),
            encoded,
        )
    }
}

/// Waits until the host says something else of itself.
async fn change(said: Option<&mut watch::Receiver<Option<HostReport>>>) {
    if let Some(said) = said
        && said.changed().await.is_ok()
    {
        return;
    }
    // Nobody will say any more.
    std::future::pending().await
}

fn log_refusal(status: &Status) {
    tracing::error!(code = ?status.code(), message = %status.message().escape_debug(), "the collector refuses a report: it goes to the dead letters");
}

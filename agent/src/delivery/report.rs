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

/// Sends reports until it is stopped. What the collector refuses as invalid
/// goes to the dead letters; everything else is tried for ever.
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
                self.beat().await;
            }
            let news = async {
                let news = written.wait_for(|written| *written >= number).await;
                news.is_ok()
            };
            tokio::select! {
                news = tokio::time::timeout(HEARTBEAT, news) => match news {
                    Err(_) => {
                        self.beat().await;
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

    /// Says that the recorder is there, where it is. One that is stuck is not
    /// vouched for by the rest of the agent.
    async fn beat(&mut self) {
        if self.outbox.idle() > STUCK {
            return;
        }
        let request = ReportRequest {
            host_id: self.outbox.host_id.clone(),
            boot_id: self.outbox.boot_id.clone(),
            reports: Vec::new(),
            host: self.host.as_ref().and_then(|host| host.borrow().clone()),
        };
        let said = request.host.is_some();
        match self.client.report(request).await {
            Ok(_) => {
                self.taken();
                if let Some(host) = self.host.as_mut().filter(|_| said) {
                    host.mark_unchanged();
                }
            }
            Err(status) => self.note(&status),
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
                }
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a batch of reports is damaged: it goes to the dead letters");
                self.bury(number, &encoded)?;
            }
        }
        delete(&path)?;
        self.outbox.usage.remove(encoded.len() as u64);
        Ok(())
    }

    /// Sends a request until the collector has it. What it refuses as invalid
    /// is looked at report by report; those it takes from nobody come back.
    async fn deliver(&mut self, request: ReportRequest, backoff: &mut Backoff) -> ReportRequest {
        let mut refused = ReportRequest {
            reports: Vec::new(),
            ..request.clone()
        };
        let Err(status) = self.send(&request, backoff).await else {
            return refused;
        };
        if request.reports.len() > 1 {
            for report in request.reports {
                let single = ReportRequest {
                    reports: vec![report],
                    ..refused.clone()
                };
                if let Err(status) = self.send(&single, backoff).await {
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

    /// Sends until there is an answer that trying again does not change.
    async fn send(&mut self, request: &ReportRequest, backoff: &mut Backoff) -> Result<(), Status> {
        loop {
            match self.client.report(request.clone()).await {
                Ok(_) => {
                    self.taken();
                    return Ok(());
                }
                Err(status) if status.code() == Code::InvalidArgument => return Err(status),
                Err(status) => {
                    self.note(&status);
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
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
    tracing::error!(message = %status.message().escape_debug(), "the collector refuses a report as invalid: it goes to the dead letters");
}

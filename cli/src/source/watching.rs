//! What only a collector knows of hosts as a whole: which are heard of, alerts,
//! failed logins, coverage, and changes as they happen.

use auditty_proto::v1;
use auditty_proto::v1::alert_service_client::AlertServiceClient;
use auditty_proto::v1::coverage_service_client::CoverageServiceClient;
use auditty_proto::v1::host_service_client::HostServiceClient;
use auditty_proto::v1::login_service_client::LoginServiceClient;
use auditty_proto::v1::session_service_client::SessionServiceClient;
use tonic::{Response, Status, Streaming};

use super::collector::{Known, MAX_ANSWER_BYTES, connect, failed};
use super::only_collector;
use crate::config::{Config, Place};
use crate::failure::Result;

/// A collector that watches hosts.
pub struct Watching {
    address: String,
    channel: Known,
}

/// Pieces of a stream, as they come.
pub struct Pieces<T> {
    address: String,
    answers: Streaming<T>,
}

impl Watching {
    /// Connects to the collector that the configuration names. `what` is asked for.
    ///
    /// # Errors
    /// It cannot be reached, or a store alone is to be read.
    pub async fn open(what: &str, config: &Config) -> Result<Self> {
        match &config.place {
            Place::Collector(address) => Ok(Self {
                address: address.clone(),
                channel: connect(address, &config.identity).await?,
            }),
            Place::Store(_) => Err(only_collector(what)),
        }
    }

    /// A page of hosts.
    ///
    /// # Errors
    /// A wrong page token, or the collector refuses or fails.
    pub async fn hosts(&mut self, ask: v1::ListHostsRequest) -> Result<v1::ListHostsResponse> {
        let mut client = HostServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES);
        let answer = client.list_hosts(ask).await;
        self.answer(answer)
    }

    /// A page of failed logins.
    ///
    /// # Errors
    /// A wrong filter or page token, or the collector refuses or fails.
    pub async fn failed_logins(
        &mut self,
        ask: v1::ListFailedLoginsRequest,
    ) -> Result<v1::ListFailedLoginsResponse> {
        let mut client = LoginServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES);
        let answer = client.list_failed_logins(ask).await;
        self.answer(answer)
    }

    /// A page of alerts.
    ///
    /// # Errors
    /// A wrong filter or page token, or the collector refuses or fails.
    pub async fn alerts(&mut self, ask: v1::ListAlertsRequest) -> Result<v1::ListAlertsResponse> {
        let answer = self.alert_client().list_alerts(ask).await;
        self.answer(answer)
    }

    /// Follows alerts.
    ///
    /// # Errors
    /// A wrong filter, or the collector refuses or fails.
    pub async fn watch_alerts(
        &mut self,
        ask: v1::WatchAlertsRequest,
    ) -> Result<Pieces<v1::WatchAlertsResponse>> {
        let answer = self.alert_client().watch_alerts(ask).await;
        self.pieces(answer)
    }

    /// The newest sessions.
    ///
    /// # Errors
    /// A wrong filter, or the collector refuses or fails.
    pub async fn sessions(&mut self, ask: v1::ListSessionsRequest) -> Result<Vec<v1::Session>> {
        let answer = self.session_client().list_sessions(ask).await;
        Ok(self.answer(answer)?.sessions)
    }

    /// Follows sessions.
    ///
    /// # Errors
    /// A wrong filter, or the collector refuses or fails.
    pub async fn watch_sessions(
        &mut self,
        ask: v1::WatchSessionsRequest,
    ) -> Result<Pieces<v1::WatchSessionsResponse>> {
        let answer = self.session_client().watch_sessions(ask).await;
        self.pieces(answer)
    }

    /// What was recorded, and what was not.
    ///
    /// # Errors
    /// A wrong range, or the collector refuses or fails.
    pub async fn coverage(
        &mut self,
        ask: v1::GetCoverageRequest,
    ) -> Result<v1::GetCoverageResponse> {
        let mut client = CoverageServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES);
        let answer = client.get_coverage(ask).await;
        self.answer(answer)
    }

    fn alert_client(&self) -> AlertServiceClient<Known> {
        AlertServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn session_client(&self) -> SessionServiceClient<Known> {
        SessionServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn answer<T>(&self, answer: std::result::Result<Response<T>, Status>) -> Result<T> {
        let answer = answer.map_err(|status| failed(&self.address, &status))?;
        Ok(answer.into_inner())
    }

    fn pieces<T>(
        &self,
        answer: std::result::Result<Response<Streaming<T>>, Status>,
    ) -> Result<Pieces<T>> {
        Ok(Pieces {
            answers: self.answer(answer)?,
            address: self.address.clone(),
        })
    }
}

impl<T> Pieces<T> {
    /// The next piece; `None` when the collector has ended the stream.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<T>> {
        let answer = self.answers.message().await;
        answer.map_err(|status| failed(&self.address, &status))
    }
}

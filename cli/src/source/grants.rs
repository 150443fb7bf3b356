//! Grants, which only a collector has.

use auditty_proto::v1;
use auditty_proto::v1::grant_service_client::GrantServiceClient;
use tonic::{Status, Streaming};

use super::collector::{Known, MAX_ANSWER_BYTES, connect, failed};
use super::only_collector;
use crate::config::{Config, Place};
use crate::failure::{Failure, Result};

/// The collector's grants.
pub struct Grants {
    address: String,
    client: GrantServiceClient<Known>,
}

/// Changes of grants, as they happen.
pub struct Changes {
    address: String,
    answers: Streaming<v1::WatchGrantsResponse>,
}

impl Grants {
    /// Connects to the collector that the configuration names.
    ///
    /// # Errors
    /// It cannot be reached, or a store alone is to be read.
    pub async fn open(config: &Config) -> Result<Self> {
        match &config.place {
            Place::Collector(address) => Ok(Self {
                address: address.clone(),
                client: GrantServiceClient::new(connect(address, &config.identity).await?)
                    .max_decoding_message_size(MAX_ANSWER_BYTES),
            }),
            Place::Store(_) => Err(only_collector("grants")),
        }
    }

    /// Creates one.
    ///
    /// # Errors
    /// It has a fault, there is another with its request id, or the collector
    /// refuses or fails.
    pub async fn create(&mut self, ask: v1::CreateGrantRequest) -> Result<v1::CreateGrantResponse> {
        let answer = self.client.create_grant(ask).await;
        Ok(answer.map_err(|status| self.failed(&status))?.into_inner())
    }

    /// One of them.
    ///
    /// # Errors
    /// There is none, or the collector refuses or fails.
    pub async fn get(&mut self, ask: v1::GetGrantRequest) -> Result<v1::GetGrantResponse> {
        let answer = self.client.get_grant(ask).await;
        Ok(answer.map_err(|status| self.failed(&status))?.into_inner())
    }

    /// A page of them.
    ///
    /// # Errors
    /// A wrong page token, or the collector refuses or fails.
    pub async fn list(&mut self, ask: v1::ListGrantsRequest) -> Result<v1::ListGrantsResponse> {
        let answer = self.client.list_grants(ask).await;
        Ok(answer.map_err(|status| self.failed(&status))?.into_inner())
    }

    /// Withdraws one.
    ///
    /// # Errors
    /// There is none, or the collector refuses or fails.
    pub async fn revoke(&mut self, ask: v1::RevokeGrantRequest) -> Result<v1::RevokeGrantResponse> {
        let answer = self.client.revoke_grant(ask).await;
        Ok(answer.map_err(|status| self.failed(&status))?.into_inner())
    }

    /// Follows them.
    ///
    /// # Errors
    /// The collector refuses or fails.
    pub async fn watch(&mut self, ask: v1::WatchGrantsRequest) -> Result<Changes> {
        let answer = self.client.watch_grants(ask).await;
        Ok(Changes {
            answers: answer.map_err(|status| self.failed(&status))?.into_inner(),
            address: self.address.clone(),
        })
    }

    fn failed(&self, status: &Status) -> Failure {
        failed(&self.address, status)
    }
}

impl Changes {
    /// The next piece; `None` when the collector has ended the stream.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<v1::WatchGrantsResponse>> {
        let answer = self.answers.message().await;
        answer.map_err(|status| failed(&self.address, &status))
    }
}

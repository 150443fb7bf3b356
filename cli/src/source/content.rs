//! STUB
use auditty_proto::v1;
use auditty_recording::chunk::Record;
use auditty_recording::key::SessionKey;
use auditty_recording::store::{AnyStore, StoreUrl};

use super::store::store_failure;
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::moment::Zone;

pub struct Content {
    problems: Vec<String>,
}

pub async fn open(_session: &v1::Session, _config: &Config) -> Result<Content> {
    Err(Failure::error("stub"))
}

impl Content {
    pub async fn open(_store: AnyStore, _key: SessionKey) -> Result<Self> {
        Err(Failure::error("stub"))
    }
    pub fn gaps(&self, _zone: &Zone) -> Vec<String> {
        Vec::new()
    }
    pub async fn next(&mut self) -> Option<Record> {
        None
    }
    pub async fn commands(&mut self) -> Vec<v1::Command> {
        Vec::new()
    }
    pub fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }
}

pub async fn open_store(config: &Config, url: StoreUrl) -> Result<AnyStore> {
    config.store(url).open().await.map_err(|error| store_failure(&error))
}

pub async fn summary(_store: &AnyStore, _key: SessionKey) -> Result<(Option<v1::Session>, Vec<String>)> {
    Ok((None, Vec::new()))
}

pub async fn find(_store: &AnyStore, _id: &str) -> Result<SessionKey> {
    Err(Failure::error("stub"))
}

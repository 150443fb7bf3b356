//! `auditty keys`: the public keys that hosts sign with.

use auditty_recording::store::AnyStore;
use auditty_recording::verify;

use super::receipts;
use crate::args::{Keys, KeysVerb};
use crate::config::{Config, Place};
use crate::failure::{Failure, Result};
use crate::out;
use crate::source::{open_store, store_failure};

pub(super) async fn run(args: &Keys, config: &Config) -> Result<()> {
    match &args.verb {
        KeysVerb::Export { host } => export(host.as_deref(), config).await,
        KeysVerb::Collector => {
            let mut collector = receipts::collector(config).await?;
            let key = receipts::public_key(&mut collector).await?;
            out::print(&receipts::signers(&[key]))
        }
    }
}

async fn export(host: Option<&str>, config: &Config) -> Result<()> {
    let store = store(config).await?;
    let hosts = match host {
        Some(host) => [host.to_owned()].into(),
        None => verify::host_ids(&store)
            .await
            .map_err(|error| store_failure(&error))?,
    };
    let mut lines = String::new();
    for host_id in hosts {
        let keys = verify::load_keys(&store, &host_id).await;
        lines += &keys
            .map_err(|error| store_failure(&error))?
            .allowed_signers();
    }
    if lines.is_empty() {
        return Err(Failure::not_found("there is no key log in the store"));
    }
    // Host ids and base64 only: nothing here acts on a terminal.
    out::print(&lines)
}

/// The store that was named: a collector has no objects.
pub(super) async fn store(config: &Config) -> Result<AnyStore> {
    match &config.place {
        Place::Store(url) => open_store(config, url.clone()).await,
        Place::Collector(_) => Err(Failure::usage("this needs the store itself")
            .hint("--store names the bucket or folder that has the recordings")),
    }
}

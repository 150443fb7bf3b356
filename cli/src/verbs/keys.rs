//! `auditty keys`: the public keys that hosts sign with.

use auditty_proto::v1;
use auditty_recording::store::AnyStore;
use auditty_recording::verify;

use super::{receipts, registry};
use crate::args::{Keys, KeysVerb};
use crate::config::{Config, Place};
use crate::failure::{Failure, Result};
use crate::source::{open_store, store_failure};
use crate::table::{self, Column, Text, Tone};
use crate::{describe, moment, out};

const COLUMNS: [Column; 5] = [
    Column::text("HOST"),
    Column::whole("KEY"),
    Column::whole("FINGERPRINT"),
    Column::whole("STANDING"),
    Column::whole("REGISTERED"),
];

pub(super) async fn run(args: &Keys, config: &Config) -> Result<()> {
    match &args.verb {
        KeysVerb::Export { host } => export(host.as_deref(), config).await,
        KeysVerb::Collector => {
            let mut collector = receipts::collector(config).await?;
            let key = receipts::public_key(&mut collector).await?;
            out::print(&receipts::signers(&[key]))
        }
        KeysVerb::List { host } => list(host.as_deref(), config).await,
        KeysVerb::Accept { host, fingerprint } => accept(host, fingerprint, config).await,
    }
}

async fn export(host: Option<&str>, config: &Config) -> Result<()> {
    let lines = match &config.place {
        Place::Store(url) => stored(&open_store(config, url.clone()).await?, host).await?,
        Place::Collector(_) => {
            let mut collector = receipts::collector(config).await?;
            let keys = registry::keys(&mut collector, host.unwrap_or_default()).await?;
            registry::allowed_signers(&keys)?
        }
    };
    if lines.is_empty() {
        return Err(Failure::not_found("there is no key of a host"));
    }
    // Host ids and base64 only: nothing here acts on a terminal.
    out::print(&lines)
}

async fn stored(store: &AnyStore, host: Option<&str>) -> Result<String> {
    let hosts = match host {
        Some(host) => [host.to_owned()].into(),
        None => verify::host_ids(store)
            .await
            .map_err(|error| store_failure(&error))?,
    };
    let mut lines = String::new();
    for host_id in hosts {
        let keys = verify::load_keys(store, &host_id).await;
        lines += &keys
            .map_err(|error| store_failure(&error))?
            .allowed_signers();
    }
    Ok(lines)
}

async fn list(host: Option<&str>, config: &Config) -> Result<()> {
    let mut collector = receipts::collector(config).await?;
    let keys = registry::keys(&mut collector, host.unwrap_or_default()).await?;
    if config.json {
        let next_page_token = String::new();
        return out::json(&v1::ListHostKeysResponse {
            keys,
            next_page_token,
        });
    }
    if keys.is_empty() {
        return out::print("no host has registered a key\n");
    }
    let rows = keys.iter().map(|key| row(key, config)).collect();
    out::print(&table::render(&COLUMNS, rows, config.colour))
}

fn row(key: &v1::HostKey, config: &Config) -> Vec<Text> {
    let tone = match registry::counts(key) {
        true => Tone::Plain,
        false => Tone::Bad,
    };
    let registered = moment::from_proto(key.registered_time.as_ref());
    vec![
        key.host_id.as_str().into(),
        format!("{}/{:06}", key.log, key.number).into(),
        key.fingerprint.as_str().into(),
        Text::toned(describe::name::<v1::KeyStanding>(key.standing), tone),
        registered
            .map_or_else(String::new, |at| config.zone.seconds(at))
            .into(),
    ]
}

async fn accept(host: &str, fingerprint: &str, config: &Config) -> Result<()> {
    let mut collector = receipts::collector(config).await?;
    let request = v1::AcceptHostKeyRequest {
        host_id: host.to_owned(),
        fingerprint: fingerprint.to_owned(),
    };
    let count = collector.accept_host_key(request).await?;
    out::print(&format!(
        "{} from now on\n",
        describe::count(count.into(), "key counts", "keys count")
    ))
}

/// The store that was named: a collector has no objects.
pub(super) async fn store(config: &Config) -> Result<AnyStore> {
    match &config.place {
        Place::Store(url) => open_store(config, url.clone()).await,
        Place::Collector(_) => Err(Failure::usage("this needs the store itself")
            .hint("--store names the bucket or folder that has the recordings")),
    }
}

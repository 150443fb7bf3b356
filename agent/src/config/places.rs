//! Where things go: `[store]` and `[collector]`, checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use auditty_collector::alerts::AlarmSettings;
use auditty_collector::config::RawAlerts;
use auditty_recording::store::{
    Encryption, ObjectLock, RetentionMode, S3Options, StoreConfig, StoreUrl,
};
use toml::Spanned;

use super::error::{ConfigError, Source};
use super::raw::{RawCollector, RawStore, Text};
use super::values::text_or;

/// `[collector]`: who takes the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collector {
    /// One inside the agent.
    Embedded {
        /// Where it listens; at least one.
        listen: Vec<Address>,
        /// Its SQLite database.
        database: PathBuf,
        /// What is an alert, and where alerts go.
        alerts: Box<AlarmSettings>,
    },
    /// One that runs elsewhere.
    Remote(Address),
}

/// Where a collector is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// `http://host:port`.
    Http(String),
    /// `host:port` behind `https://`.
    Https(String, ClientTls),
    /// A TCP port on this host, to listen on.
    Tcp(SocketAddr),
}

/// How a collector and this host prove to each other who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl ClientTls {
    /// Authorities of the collector's certificate, PEM; without it, the system's.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// This host's certificate and its private key, PEM.
    pub fn identity(&self) -> Option<(&Path, &Path)> {
        let (certificate, key) = self.identity.as_ref()?;
        Some((certificate, key))
    }
}

/// `[store]`: where recordings go.
pub(super) fn store(raw: RawStore, source: &Source<'_>) -> Result<StoreConfig, ConfigError> {
    const DEFAULT: &str = "file:///var/lib/auditty/recordings";
    let (text, span) = text_or(raw.url, DEFAULT);
    let accepted = "\"file:///path\" or \"s3://bucket/prefix\"";
    let url = match text.parse::<StoreUrl>() {
        Ok(StoreUrl::Local(path)) if !path.is_absolute() => {
            return Err(source.rejected("store.url", span, accepted));
        }
        Ok(url) => url,
        Err(_) => return Err(source.rejected("store.url", span, accepted)),
    };
    if let StoreUrl::Local(_) = url {
        let bucket_only = [
            (
                "store.endpoint_url",
                raw.endpoint_url.as_ref().map(Spanned::span),
            ),
            ("store.region", raw.region.as_ref().map(Spanned::span)),
            (
                "store.path_style",
                raw.path_style.as_ref().map(Spanned::span),
            ),
            ("store.sse", raw.sse.as_ref().map(Spanned::span)),
            (
                "store.kms_key_id",
                raw.kms_key_id.as_ref().map(Spanned::span),
            ),
            (
                "store.object_lock",
                raw.object_lock.as_ref().map(Spanned::span),
            ),
            ("store.tags", raw.tags.as_ref().map(Spanned::span)),
        ];
        for (key, span) in bucket_only {
            if let Some(span) = span {
                return Err(source.rejected(key, span, "this key only with an s3:// `store.url`"));
            }
        }
    }
    Ok(StoreConfig {
        url,
        s3: S3Options {
            encryption: encryption(raw.sse, raw.kms_key_id, source)?,
            endpoint_url: raw
                .endpoint_url
                .map(|url| source.http_url("store.endpoint_url", url))
                .transpose()?,
            region: raw.region.map(Spanned::into_inner),
            path_style: raw.path_style.is_some_and(Spanned::into_inner),
            object_lock: object_lock(raw.object_lock, raw.retention_days, source)?,
            tags: tags(raw.tags, source)?,
        },
    })
}

/// How objects are locked.
#[derive(Clone, Copy)]
enum Locking {
    ByBucket,
    Off,
    By(RetentionMode),
}

fn object_lock(
    text: Text,
    days: Option<Spanned<u32>>,
    source: &Source<'_>,
) -> Result<ObjectLock, ConfigError> {
    /// A hundred years: more than S3 takes.
    const MOST_DAYS: u32 = 36_500;
    let place = text.as_ref().map_or(0..0, Spanned::span);
    let locking = source.choice(
        "store.object_lock",
        text,
        &[
            ("bucket", Locking::ByBucket),
            ("off", Locking::Off),
            ("governance", Locking::By(RetentionMode::Governance)),
            ("compliance", Locking::By(RetentionMode::Compliance)),
        ],
    )?;
    match (locking, days) {
        (Locking::ByBucket, None) => Ok(ObjectLock::BucketDefault),
        (Locking::Off, None) => Ok(ObjectLock::Off),
        (Locking::By(mode), Some(days)) if (1..=MOST_DAYS).contains(days.get_ref()) => {
            Ok(ObjectLock::Explicit {
                mode,
                days: days.into_inner(),
            })
        }
        (Locking::By(_), Some(days)) => Err(source.rejected(
            "store.retention_days",
            days.span(),
            format_args!("1 to {MOST_DAYS}"),
        )),
        (Locking::By(_), None) => Err(source.rejected(
            "store.object_lock",
            place,
            "this value together with store.retention_days",
        )),
        (_, Some(days)) => Err(source.rejected(
            "store.retention_days",
            days.span(),
            "this key only with store.object_lock = \"governance\" or \"compliance\"",
        )),
    }
}

/// What S3 takes: ten tags, of letters, digits, spaces and some signs.
fn tags(
    tags: Option<Spanned<BTreeMap<String, String>>>,
    source: &Source<'_>,
) -> Result<Vec<(String, String)>, ConfigError> {
    const MOST: usize = 10;
    let Some(tags) = tags else {
        return Ok(Vec::new());
    };
    let plain = |text: &str, most: usize| {
        let taken = |letter: char| letter.is_alphanumeric() || " +-=._:/@".contains(letter);
        text.chars().count() <= most && text.chars().all(taken)
    };
    let taken = |(key, value): (&String, &String)| {
        !key.is_empty() && !key.starts_with("aws:") && plain(key, 128) && plain(value, 256)
    };
    match tags.get_ref().len() <= MOST && tags.get_ref().iter().all(taken) {
        true => Ok(tags.into_inner().into_iter().collect()),
        false => Err(source.rejected(
            "store.tags",
            tags.span(),
            "at most 10 tags, keys of 1 to 128 and values of up to 256 letters, digits, spaces \
             and + - = . _ : / @",
        )),
    }
}

fn encryption(sse: Text, key_id: Text, source: &Source<'_>) -> Result<Encryption, ConfigError> {
    let kms = match &sse {
        None => false,
        Some(sse) if sse.get_ref() == "AES256" => false,
        Some(sse) if sse.get_ref() == "aws:kms" => true,
        Some(sse) => {
            return Err(source.rejected("store.sse", sse.span(), "\"AES256\" or \"aws:kms\""));
        }
    };
    match (kms, key_id) {
        (true, key_id) => Ok(Encryption::Kms {
            key_id: key_id.map(Spanned::into_inner),
        }),
        (false, Some(key_id)) => Err(source.rejected(
            "store.kms_key_id",
            key_id.span(),
            "this key only with store.sse = \"aws:kms\"",
        )),
        (false, None) if sse.is_some() => Ok(Encryption::Aes256),
        (false, None) => Ok(Encryption::BucketDefault),
    }
}

impl Collector {
    pub(super) fn check(
        raw: RawCollector,
        alerts: Option<Spanned<RawAlerts>>,
        source: &Source<'_>,
    ) -> Result<Self, ConfigError> {
        let remote = source.choice(
            "collector.mode",
            raw.mode.clone(),
            &[("embedded", false), ("remote", true)],
        )?;
        if remote {
            if let Some(alerts) = alerts {
                let reason = "only with collector.mode = \"embedded\": the collector elsewhere \
                              has its own";
                return Err(source.refused("alerts", alerts.span(), reason.to_owned()));
            }
            let Some(address) = raw.address else {
                let span = raw.mode.map_or(0..0, |mode| mode.span());
                return Err(source.rejected(
                    "collector.mode",
                    span,
                    "\"remote\" together with collector.address",
                ));
            };
            let span = address.span();
            let address = source.remote_address("collector.address", address)?;
            let keys = [
                ("collector.ca", raw.ca),
                ("collector.certificate", raw.certificate),
                ("collector.key", raw.key),
            ];
            return Ok(Self::Remote(with_tls(address, span, keys, source)?));
        }
        for (key, text) in [
            ("collector.ca", raw.ca),
            ("collector.certificate", raw.certificate),
            ("collector.key", raw.key),
        ] {
            if let Some(text) = text {
                let accepted = "this key only with collector.mode = \"remote\"";
                return Err(source.rejected(key, text.span(), accepted));
            }
        }
        if let Some(address) = raw.address {
            return Err(source.rejected(
                "collector.address",
                address.span(),
                "this key only with collector.mode = \"remote\"",
            ));
        }
        let listen = match raw.listen {
            None => vec![Address::Unix("/run/auditty/collector.sock".into())],
            Some(listen) => listen
                .into_iter()
                .map(|address| source.listen_address("collector.listen", address))
                .collect::<Result<_, _>>()?,
        };
        let (span, alerts) = alerts.map_or((0..0, RawAlerts::default()), |alerts| {
            (alerts.span(), alerts.into_inner())
        });
        let alerts = alerts.check();
        let alerts = alerts.map_err(|(key, reason)| source.refused(key, span, reason))?;
        Ok(Self::Embedded {
            alerts: Box::new(alerts),
            listen,
            database: source.path(
                "collector.database",
                raw.database,
                "/var/lib/auditty/collector.db",
            )?,
        })
    }
}

/// Gives an https address its keys; others have none.
fn with_tls(
    address: Address,
    span: Range<usize>,
    keys: [(&str, Text); 3],
    source: &Source<'_>,
) -> Result<Address, ConfigError> {
    let Address::Https(authority, _) = address else {
        for (key, text) in keys {
            if let Some(text) = text {
                let accepted = "this key only with an https:// `collector.address`";
                return Err(source.rejected(key, text.span(), accepted));
            }
        }
        return Ok(address);
    };
    let path = |(key, text): (&str, Text)| {
        text.map(|text| source.path(key, Some(text), ""))
            .transpose()
    };
    let [ca, certificate, key] = keys;
    let (ca, certificate, key) = (path(ca)?, path(certificate)?, path(key)?);
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            let accepted = "collector.certificate and collector.key together, or neither";
            return Err(source.rejected("collector.address", span, accepted));
        }
    };
    Ok(Address::Https(authority, ClientTls { ca, identity }))
}

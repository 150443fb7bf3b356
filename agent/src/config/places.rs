//! Where things go: `[store]` and `[collector]`, checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;

use super::error::{ConfigError, Source};
use super::raw::{RawCollector, RawStore};
use super::values::text_or;

/// `[store]`: where recordings go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// A folder.
    Folder(PathBuf),
    /// A bucket.
    Bucket(Bucket),
}

/// A place in an S3 bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Name of the bucket.
    pub name: String,
    /// What every key begins with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The server, where it is not AWS.
    pub endpoint_url: Option<String>,
    /// The region; `None` takes it from the AWS environment.
    pub region: Option<String>,
    /// Address the bucket in the path.
    pub path_style: bool,
    /// Server-side encryption to ask for: `AES256` or `aws:kms`.
    pub sse: Option<String>,
    /// The KMS key, with `aws:kms`.
    pub kms_key_id: Option<String>,
}

/// `[collector]`: who takes the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collector {
    /// One inside the agent.
    Embedded {
        /// Where it listens; at least one.
        listen: Vec<Address>,
        /// Its SQLite database.
        database: PathBuf,
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
    /// A TCP port on this host, to listen on.
    Tcp(SocketAddr),
}

impl Store {
    pub(super) fn check(raw: RawStore, source: &Source<'_>) -> Result<Self, ConfigError> {
        const ACCEPTED: &str = "\"file:///path\" or \"s3://bucket/prefix\"";
        const DEFAULT: &str = "file:///var/lib/auditty/recordings";
        let (url, span) = text_or(raw.url, DEFAULT);
        if let Some(folder) = url.strip_prefix("file://") {
            let bucket_only = [
                (
                    "store.endpoint_url",
                    raw.endpoint_url.map(|value| value.span()),
                ),
                ("store.region", raw.region.map(|value| value.span())),
                ("store.path_style", raw.path_style.map(|value| value.span())),
                ("store.sse", raw.sse.map(|value| value.span())),
                ("store.kms_key_id", raw.kms_key_id.map(|value| value.span())),
            ];
            for (key, span) in bucket_only {
                if let Some(span) = span {
                    return Err(source.rejected(
                        key,
                        span,
                        "this key only with an s3:// `store.url`",
                    ));
                }
            }
            let folder = PathBuf::from(folder);
            return match folder.is_absolute() {
                true => Ok(Self::Folder(folder)),
                false => Err(source.rejected("store.url", span, ACCEPTED)),
            };
        }
        let place = url.strip_prefix("s3://").unwrap_or_default();
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        if name.is_empty() {
            return Err(source.rejected("store.url", span, ACCEPTED));
        }
        let sse = raw.sse.map(|sse| match sse.get_ref().as_str() {
            "AES256" | "aws:kms" => Ok(sse.into_inner()),
            _ => Err(source.rejected("store.sse", sse.span(), "\"AES256\" or \"aws:kms\"")),
        });
        let sse = sse.transpose()?;
        if let Some(key) = &raw.kms_key_id
            && sse.as_deref() != Some("aws:kms")
        {
            return Err(source.rejected(
                "store.kms_key_id",
                key.span(),
                "this key only with store.sse = \"aws:kms\"",
            ));
        }
        Ok(Self::Bucket(Bucket {
            name: name.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            endpoint_url: raw
                .endpoint_url
                .map(|url| source.http_url("store.endpoint_url", url))
                .transpose()?,
            region: raw.region.map(Spanned::into_inner),
            path_style: raw.path_style.is_some_and(Spanned::into_inner),
            sse,
            kms_key_id: raw.kms_key_id.map(Spanned::into_inner),
        }))
    }
}

impl Collector {
    pub(super) fn check(raw: RawCollector, source: &Source<'_>) -> Result<Self, ConfigError> {
        let remote = source.choice(
            "collector.mode",
            raw.mode.clone(),
            &[("embedded", false), ("remote", true)],
        )?;
        if remote {
            let Some(address) = raw.address else {
                let span = raw.mode.map_or(0..0, |mode| mode.span());
                return Err(source.rejected(
                    "collector.mode",
                    span,
                    "\"remote\" together with collector.address",
                ));
            };
            return Ok(Self::Remote(
                source.remote_address("collector.address", address)?,
            ));
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
        Ok(Self::Embedded {
            listen,
            database: source.path(
                "collector.database",
                raw.database,
                "/var/lib/auditty/collector.db",
            )?,
        })
    }
}

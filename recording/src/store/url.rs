//! Store addresses and settings.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use super::{AnyStore, LocalStore, S3Store, StoreError};
use crate::escape;

/// The text is no store address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a store: {problem}; use s3://bucket/prefix, file:///folder or a path")]
pub struct StoreUrlError {
    given: String,
    problem: &'static str,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A folder; written `file:///folder` or as a plain path.
    Local(PathBuf),
    /// `s3://bucket/prefix`.
    S3 {
        /// The bucket.
        bucket: String,
        /// Empty, or without slashes at its ends.
        prefix: String,
    },
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let parsed = match text.split_once("://") {
            None if text.is_empty() => Err("it is empty"),
            None => Ok(Self::Local(PathBuf::from(text))),
            Some(("file", rest)) => parse_file(rest),
            Some(("s3", rest)) => parse_s3(rest),
            Some(_) => Err("its scheme is unknown"),
        };
        parsed.map_err(|problem| StoreUrlError {
            given: text.to_owned(),
            problem,
        })
    }
}

fn parse_file(rest: &str) -> Result<StoreUrl, &'static str> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("a file: address has three slashes and an absolute path");
    }
    escape::unpercent(path)
        .map(|path| StoreUrl::Local(PathBuf::from(path)))
        .ok_or("its percent-encoding is broken")
}

fn parse_s3(rest: &str) -> Result<StoreUrl, &'static str> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    if bucket.is_empty() {
        return Err("the bucket is missing");
    }
    if !prefix.is_empty() && !super::is_plain(prefix) {
        return Err("its prefix has empty, `.` or `..` parts");
    }
    Ok(StoreUrl::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                write!(
                    f,
                    "file://{}",
                    escape::percent(&path.to_string_lossy(), "/=~+@:,")
                )
            }
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Server-side encryption asked for with every put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// The bucket's default.
    #[default]
    BucketDefault,
    /// `AES256`: keys managed by S3.
    Aes256,
    /// `aws:kms`, with this key or the account's own.
    Kms {
        /// Key id, ARN or alias.
        key_id: Option<String>,
    },
}

/// Who may delete a locked object before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionMode {
    /// Those with a right of their own.
    Governance,
    /// Nobody.
    Compliance,
}

impl fmt::Display for RetentionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        })
    }
}

/// Object Lock asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectLock {
    /// The bucket locks by its own default retention.
    #[default]
    BucketDefault,
    /// The bucket locks nothing, and that is wanted.
    Off,
    /// Every put locks its object. The writer needs `s3:PutObjectRetention`.
    Explicit {
        /// How.
        mode: RetentionMode,
        /// For how long, from the put.
        days: u32,
    },
}

/// How to reach S3. Credentials come from the usual AWS places only
/// (environment, profile, web identity, container, instance role).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Options {
    /// Another endpoint than AWS's, such as `http://127.0.0.1:9000`.
    pub endpoint_url: Option<String>,
    /// Region; absent: from the usual AWS places.
    pub region: Option<String>,
    /// Bucket in the path instead of in the host name.
    pub path_style: bool,
    /// Server-side encryption.
    pub encryption: Encryption,
    /// Object Lock.
    pub object_lock: ObjectLock,
    /// Tags of every object, for lifecycle rules; with any, the writer needs
    /// `s3:PutObjectTagging`.
    pub tags: Vec<(String, String)>,
}

/// Everything needed to open a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Where it is.
    pub url: StoreUrl,
    /// Used when `url` is an S3 one.
    pub s3: S3Options,
}

impl StoreConfig {
    /// Opens the store. Does not touch the network or create anything yet.
    pub async fn open(&self) -> Result<AnyStore, StoreError> {
        Ok(match &self.url {
            StoreUrl::Local(root) => Arc::new(LocalStore::new(root)),
            StoreUrl::S3 { bucket, prefix } => {
                Arc::new(S3Store::open(bucket, prefix, &self.s3).await?)
            }
        })
    }
}

impl From<StoreUrl> for StoreConfig {
    fn from(url: StoreUrl) -> Self {
        Self {
            url,
            s3: S3Options::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StoreUrl;

    #[test]
    fn addresses_parse_and_print() {
        for (given, printed) in [
            ("/var/lib/auditty", "file:///var/lib/auditty"),
            ("file:///a%20b", "file:///a%20b"),
            ("file://localhost/a", "file:///a"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ] {
            assert_eq!(given.parse::<StoreUrl>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        for (given, problem) in [
            ("", "empty"),
            ("file://server/share", "three slashes"),
            ("file:///%zz", "percent-encoding"),
            ("s3:///prefix", "bucket is missing"),
            ("s3://bucket/a/../b", "`..`"),
            ("gs://bucket", "scheme is unknown"),
        ] {
            let error = given.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}

//! A store in an S3 bucket, or anything that speaks S3.
//!
//! Every put is conditional (`If-None-Match: *`) and carries its SHA-256, which
//! the server checks and keeps. The agent's key needs `s3:PutObject` on the
//! prefix and nothing else; `s3:PutObjectRetention` and `s3:PutObjectTagging`
//! where the settings ask for retention and tags of single objects.
//!
//! A put is tried once: who retries must know whether the object may be there
//! already (see [`Failure::Unanswered`]).

use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::StalledStreamProtectionConfig,
    operation::put_object::PutObjectOutput,
    primitives::{ByteStream, DateTime},
    types::{ChecksumMode, ObjectLockMode, ServerSideEncryption},
};

use super::s3_error::{failure, is_precondition_failed};
use super::{
    Body, BoxFuture, Encryption, Failure, Inspection, Listed, MAX_LISTED, MAX_OBJECT_BYTES,
    ObjectLock, PutOutcome, RetentionMode, S3Options, Store, StoreError, StoreUrl, is_plain,
};
use crate::digest::Digest;
use crate::escape;

/// A server that does not answer a TCP handshake in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One try of one request; a chunk of some MiB fits on a slow uplink.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// A request with its retries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(120);

/// Tries of one request that reads, the first included.
const ATTEMPTS: u32 = 3;

/// Objects in a bucket, below a prefix.
#[derive(Clone, Debug)]
pub struct S3Store {
    pub(super) client: Client,
    pub(super) bucket: String,
    /// Empty, or closed by a slash.
    prefix: String,
    pub(super) encryption: Encryption,
    pub(super) object_lock: ObjectLock,
    /// As the header has them: `key=value&key=value`.
    tagging: Option<String>,
    /// Where the requests go, when that is not AWS.
    endpoint: Option<String>,
}

impl S3Store {
    /// A store in `bucket` below `prefix`. Looks up region and credentials in
    /// the usual AWS places; the bucket itself is not touched yet.
    pub fn open<'a>(
        bucket: &'a str,
        prefix: &'a str,
        options: &'a S3Options,
    ) -> BoxFuture<'a, Result<Self, StoreError>> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(region) = &options.region {
            loader = loader.region(Region::new(region.clone()));
        }
        Box::pin(async move { Self::with_config(&loader.load().await, bucket, prefix, options) })
    }

    /// As [`S3Store::open`], with credentials and region of `shared`.
    pub fn with_config(
        shared: &SdkConfig,
        bucket: &str,
        prefix: &str,
        options: &S3Options,
    ) -> Result<Self, StoreError> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        let mut config = aws_sdk_s3::config::Builder::from(shared)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().build())
            .force_path_style(options.path_style);
        if let Some(endpoint) = &options.endpoint_url {
            config = config.endpoint_url(endpoint);
        }
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let store = Self {
            client: Client::from_conf(config.build()),
            bucket: bucket.to_owned(),
            prefix,
            encryption: options.encryption.clone(),
            object_lock: options.object_lock,
            tagging: tagging(&options.tags),
            endpoint: options.endpoint_url.clone(),
        };
        if shared.region().is_none() {
            let problem = "no region is set (store settings, AWS_REGION or the AWS profile)";
            return Err(store.error("open", "", Failure::Config(problem.to_owned())));
        }
        Ok(store)
    }

    pub(super) fn error(&self, operation: &'static str, key: &str, failure: Failure) -> StoreError {
        // Which server could not be reached says more than the bucket's name.
        let failure = match (failure, &self.endpoint) {
            (Failure::Transient(problem), Some(endpoint)) => {
                Failure::Transient(format!("{endpoint}: {problem}"))
            }
            (Failure::Unanswered(problem), Some(endpoint)) => {
                Failure::Unanswered(format!("{endpoint}: {problem}"))
            }
            (failure, _) => failure,
        };
        StoreError {
            operation,
            uri: self.uri(key),
            failure,
        }
    }

    fn object(&self, key: &str) -> Result<String, Failure> {
        if is_plain(key) {
            Ok(format!("{}{key}", self.prefix))
        } else {
            Err(Failure::InvalidKey)
        }
    }

    async fn put(&self, key: &str, body: Body) -> Result<PutOutcome, Failure> {
        let sha256 = Digest::of(&body);
        match self.try_put(key, body).await? {
            Some(_) => Ok(PutOutcome::Created),
            None => self.compare(&self.object(key)?, sha256).await,
        }
    }

    /// Puts an object that is not there; nothing when one is.
    pub(super) async fn try_put(
        &self,
        key: &str,
        body: Body,
    ) -> Result<Option<PutObjectOutput>, Failure> {
        let object = self.object(key)?;
        let sha256 = Digest::of(&body);
        let (encryption, kms_key) = match &self.encryption {
            Encryption::BucketDefault => (None, None),
            Encryption::Aes256 => (Some(ServerSideEncryption::Aes256), None),
            Encryption::Kms { key_id } => (Some(ServerSideEncryption::AwsKms), key_id.clone()),
        };
        let (lock_mode, locked_until) = self.retention().unzip();
        let once = aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled());
        let outcome = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&object)
            .if_none_match("*")
            .checksum_sha256(sha256.to_base64())
            .content_type(content_type(key))
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(kms_key)
            .set_object_lock_mode(lock_mode)
            .set_object_lock_retain_until_date(locked_until)
            .set_tagging(self.tagging.clone())
            .body(ByteStream::from(body))
            .customize()
            .config_override(once)
            .send()
            .await;
        match outcome {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_precondition_failed(&error) => Ok(None),
            Err(error) => Err(failure(&error)),
        }
    }

    fn retention(&self) -> Option<(ObjectLockMode, DateTime)> {
        let ObjectLock::Explicit { mode, days } = self.object_lock else {
            return None;
        };
        let mode = match mode {
            RetentionMode::Governance => ObjectLockMode::Governance,
            RetentionMode::Compliance => ObjectLockMode::Compliance,
        };
        let until = SystemTime::now() + Duration::from_secs(u64::from(days) * 24 * 3600);
        Some((mode, DateTime::from(until)))
    }

    /// Whether the object that is there is the one that was to be stored.
    async fn compare(&self, object: &str, expected: Digest) -> Result<PutOutcome, Failure> {
        let head = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(object)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        let known = match head {
            Ok(head) => head.checksum_sha256().and_then(Digest::from_base64),
            Err(error) => match failure(&error) {
                Failure::Config(_) => return Ok(PutOutcome::AlreadyUnverified),
                other => return Err(other),
            },
        };
        // A store that keeps no checksums has to show the object itself.
        let found = match known {
            Some(found) => found,
            None => match self.fetch(object, MAX_OBJECT_BYTES).await {
                Ok(body) => Digest::of(&body),
                Err(Failure::Config(_)) => return Ok(PutOutcome::AlreadyUnverified),
                Err(other) => return Err(other),
            },
        };
        if found == expected {
            Ok(PutOutcome::AlreadyIdentical)
        } else {
            Err(Failure::Conflict { expected, found })
        }
    }

    async fn fetch(&self, object: &str, limit: u64) -> Result<Body, Failure> {
        let request = self.client.get_object().bucket(&self.bucket).key(object);
        let answer = request.send().await.map_err(|error| failure(&error))?;
        let mut stream = answer.body;
        let mut body = Vec::new();
        loop {
            match stream.try_next().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => return Ok(Body::from(body)),
                Err(error) => return Err(Failure::Unanswered(super::s3_error::chain(&error))),
            }
            if body.len() as u64 > limit {
                return Err(Failure::TooLarge { limit });
            }
        }
    }

    /// Objects and folders below `prefix`; with `delimiter` only direct ones.
    async fn page_through(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
    ) -> Result<(Vec<Listed>, Vec<String>), Failure> {
        if !prefix.is_empty() && !is_plain(prefix) {
            return Err(Failure::InvalidKey);
        }
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(format!("{}{prefix}", self.prefix))
            .set_delimiter(delimiter.map(str::to_owned))
            .into_paginator()
            .send();
        let (mut objects, mut folders) = (Vec::new(), Vec::new());
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failure(&error))?;
            for object in page.contents() {
                if let Some(key) = object.key().and_then(|key| key.strip_prefix(&self.prefix)) {
                    objects.push(Listed {
                        key: key.to_owned(),
                        bytes: object
                            .size()
                            .and_then(|size| size.try_into().ok())
                            .unwrap_or(0),
                    });
                }
            }
            let found = page
                .common_prefixes()
                .iter()
                .filter_map(|found| found.prefix());
            folders.extend(
                found
                    .filter_map(|key| key.strip_prefix(&self.prefix))
                    .map(str::to_owned),
            );
            if objects.len() + folders.len() > MAX_LISTED {
                return Err(Failure::TooMany);
            }
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        folders.sort();
        Ok((objects, folders))
    }
}

impl Store for S3Store {
    fn put_new<'a>(
        &'a self,
        key: &'a str,
        body: Body,
    ) -> BoxFuture<'a, Result<PutOutcome, StoreError>> {
        Box::pin(async move {
            let outcome = self.put(key, body).await;
            outcome.map_err(|failure| self.error("write", key, failure))
        })
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Body, StoreError>> {
        Box::pin(async move {
            let fetched = match self.object(key) {
                Ok(object) => self.fetch(&object, limit).await,
                Err(failure) => Err(failure),
            };
            fetched.map_err(|failure| self.error("read", key, failure))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, StoreError>> {
        Box::pin(async move {
            match self.page_through(prefix, None).await {
                Ok((objects, _)) => Ok(objects),
                Err(failure) => Err(self.error("list", prefix, failure)),
            }
        })
    }

    fn folders<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            match self.page_through(prefix, Some("/")).await {
                Ok((_, folders)) => Ok(folders),
                Err(failure) => Err(self.error("list", prefix, failure)),
            }
        })
    }

    fn inspect<'a>(
        &'a self,
        key: &'a str,
        body: Body,
    ) -> BoxFuture<'a, Result<Inspection, StoreError>> {
        Box::pin(async move {
            let found = self.inspect_bucket(key, body).await;
            found.map_err(|failure| self.error("write", key, failure))
        })
    }

    fn uri(&self, key: &str) -> String {
        StoreUrl::S3 {
            bucket: self.bucket.clone(),
            prefix: format!("{}{key}", self.prefix),
        }
        .to_string()
    }
}

/// What a browser or a lifecycle tool should take an object for.
fn content_type(key: &str) -> &'static str {
    match key.rsplit('.').next() {
        Some("zst") => "application/zstd",
        Some("json") => "application/json",
        _ => "text/plain",
    }
}

fn tagging(tags: &[(String, String)]) -> Option<String> {
    let pair = |(key, value): &(String, String)| {
        format!(
            "{}={}",
            escape::percent(key, ""),
            escape::percent(value, "")
        )
    };
    let pairs: Vec<String> = tags.iter().map(pair).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

//! What protects the objects of a bucket.
//!
//! The answer to a put says whether there are versions and how the object is
//! encrypted, to everyone who may put. The bucket's own settings need
//! `s3:GetBucketVersioning` and `s3:GetBucketObjectLockConfiguration`; without
//! these rights they are hidden, which is no problem of its own.

use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::types::{
    BucketVersioningStatus, DefaultRetention, ObjectLockRetentionMode, ServerSideEncryption,
};

use super::s3_error::failure;
use super::{
    Body, Encryption, Failure, Inspection, Lock, ObjectLock, RetentionMode, S3Store, Setting,
};

/// A year of a default retention, days.
const YEAR_DAYS: u32 = 365;

const HIDDEN: &str = "the key may not read it";

impl S3Store {
    pub(super) async fn inspect_bucket(
        &self,
        key: &str,
        body: Body,
    ) -> Result<Inspection, Failure> {
        let answer = self.try_put(key, body).await?;
        let lock = match (self.object_lock, self.bucket_lock().await) {
            // The put was taken, with its retention.
            (ObjectLock::Explicit { mode, days }, _) => Setting::Is(Lock::For(mode, Some(days))),
            (_, found) => found,
        };
        let mut inspection = Inspection {
            versioning: self.versioning(answer.as_ref()).await,
            lock,
            encryption: match &answer {
                Some(answer) => Setting::Is(encryption(answer)),
                None => Setting::Hidden("looked at within this hour".to_owned()),
            },
            problems: Vec::new(),
        };
        inspection.problems = self.problems(&inspection, answer.as_ref());
        Ok(inspection)
    }

    async fn versioning(&self, answer: Option<&PutObjectOutput>) -> Setting<bool> {
        if let Some(version) = answer.and_then(PutObjectOutput::version_id) {
            return Setting::Is(version != "null");
        }
        let request = self.client.get_bucket_versioning().bucket(&self.bucket);
        match request.send().await {
            Ok(found) => Setting::Is(found.status() == Some(&BucketVersioningStatus::Enabled)),
            // A put into a bucket with versions names the new one.
            Err(_) if answer.is_some() => Setting::Is(false),
            Err(error) => hidden(failure(&error)),
        }
    }

    async fn bucket_lock(&self) -> Setting<Lock> {
        let request = self
            .client
            .get_object_lock_configuration()
            .bucket(&self.bucket);
        let found = match request.send().await {
            Ok(found) => found,
            Err(error) => {
                return match failure(&error) {
                    Failure::NotFound => Setting::Is(Lock::Off),
                    other => hidden(other),
                };
            }
        };
        let rule = found
            .object_lock_configuration()
            .and_then(|configuration| configuration.rule());
        Setting::Is(match rule.and_then(|rule| rule.default_retention()) {
            Some(retention) => default_lock(retention),
            None => Lock::WithoutDefault,
        })
    }

    fn problems(&self, found: &Inspection, answer: Option<&PutObjectOutput>) -> Vec<String> {
        let mut problems = Vec::new();
        if found.versioning == Setting::Is(false) {
            problems
                .push("the bucket keeps no versions: an object that is deleted is gone".to_owned());
        }
        if self.object_lock == ObjectLock::BucketDefault
            && let Setting::Is(lock @ (Lock::Off | Lock::WithoutDefault)) = &found.lock
        {
            problems.push(format!(
                "Object Lock of the bucket is {lock}: recordings can be deleted (set \
                 store.object_lock = \"off\" where that is wanted)"
            ));
        }
        if let (Some(answer), Some(problem)) = (answer, answer.and_then(|a| self.not_as_asked(a))) {
            problems.push(format!("{problem}, but {}", encryption(answer)));
        }
        problems
    }

    /// What encryption was asked for, where the object has another one.
    fn not_as_asked(&self, answer: &PutObjectOutput) -> Option<String> {
        let kind = answer.server_side_encryption();
        match &self.encryption {
            Encryption::BucketDefault => None,
            Encryption::Aes256 => (kind != Some(&ServerSideEncryption::Aes256))
                .then(|| "the encryption is not AES256".to_owned()),
            Encryption::Kms { key_id } => {
                let used = answer.ssekms_key_id().unwrap_or_default();
                // An alias is answered with the key behind it.
                let other = |id: &String| !id.contains("alias/") && !used.ends_with(id.as_str());
                let wrong = kind != Some(&ServerSideEncryption::AwsKms)
                    || key_id.as_ref().is_some_and(other);
                wrong.then(|| "the encryption is not by the key of store.kms_key_id".to_owned())
            }
        }
    }
}

fn default_lock(retention: &DefaultRetention) -> Lock {
    let mode = match retention.mode() {
        Some(ObjectLockRetentionMode::Compliance) => RetentionMode::Compliance,
        _ => RetentionMode::Governance,
    };
    let days = retention.days().and_then(|days| u32::try_from(days).ok());
    let years = retention
        .years()
        .and_then(|years| u32::try_from(years).ok());
    Lock::For(
        mode,
        days.or(years.map(|years| years.saturating_mul(YEAR_DAYS))),
    )
}

fn encryption(answer: &PutObjectOutput) -> String {
    match (answer.server_side_encryption(), answer.ssekms_key_id()) {
        (None, _) => "not told".to_owned(),
        (Some(kind), None) => kind.to_string(),
        (Some(kind), Some(key)) => format!("{kind} with {key}"),
    }
}

fn hidden<T>(failure: Failure) -> Setting<T> {
    match failure {
        Failure::Config(_) => Setting::Hidden(HIDDEN.to_owned()),
        other => Setting::Hidden(other.to_string()),
    }
}

//! The same conformance suite for every store, and what is special to each.
//!
//! S3 needs `AUDITTY_TEST_S3_ENDPOINT`, `AUDITTY_TEST_S3_BUCKET` and AWS
//! credentials that may write and read; `AUDITTY_TEST_S3_WRITER_KEY_ID` and
//! `AUDITTY_TEST_S3_WRITER_SECRET` name a user with `s3:PutObject` only.

#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;
#[path = "store/s3_in_process.rs"]
mod s3_in_process;

use std::sync::Arc;

use auditty_recording::digest::Digest;
use auditty_recording::reader::{Filter, Recording, State, find_session, list_recordings};
use auditty_recording::store::*;
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use common::*;

struct S3 {
    endpoint: String,
    bucket: String,
}

/// The S3 server to test with, or a printed reason why there is none.
fn s3() -> Option<S3> {
    let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let found = read("AUDITTY_TEST_S3_ENDPOINT").zip(read("AUDITTY_TEST_S3_BUCKET"));
    if found.is_none() {
        eprintln!("skipped: AUDITTY_TEST_S3_ENDPOINT and AUDITTY_TEST_S3_BUCKET are not set");
    }
    found.map(|(endpoint, bucket)| S3 { endpoint, bucket })
}

impl S3 {
    fn config(&self, bucket: &str, prefix: &str) -> StoreConfig {
        StoreConfig {
            url: format!("s3://{bucket}/{prefix}").parse().unwrap(),
            s3: S3Options {
                endpoint_url: Some(self.endpoint.clone()),
                region: Some("us-east-1".to_owned()),
                path_style: true,
                ..S3Options::default()
            },
        }
    }

    fn store_as(&self, prefix: &str, id: &str, secret: &str) -> S3Store {
        let provider = Credentials::new(id, secret, None, None, "test");
        let shared = aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(provider))
            .build();
        let options = self.config(&self.bucket, prefix).s3;
        S3Store::with_config(&shared, &self.bucket, prefix, &options).unwrap()
    }

    async fn store(&self, prefix: &str) -> AnyStore {
        self.config(&self.bucket, prefix).open().await.unwrap()
    }
}

fn unique_prefix() -> String {
    format!("test/{}", uuid::Uuid::now_v7())
}

/// What every store does.
async fn conforms(store: AnyStore) {
    let put = |key: &'static str, body: &'static [u8]| store.put_new(key, Body::from_static(body));
    assert_eq!(put("v1/a/one", b"1").await.unwrap(), PutOutcome::Created);
    assert_eq!(
        put("v1/a/one", b"1").await.unwrap(),
        PutOutcome::AlreadyIdentical
    );
    let error = put("v1/a/one", b"2").await.unwrap_err();
    assert!(
        matches!(&error.failure, Failure::Conflict { expected, found }
        if *expected == Digest::of(b"2") && *found == Digest::of(b"1")),
        "{error}"
    );
    assert!(!error.is_transient() && !error.is_permanent_config());
    assert_eq!(store.get("v1/a/one", 10).await.unwrap().as_ref(), b"1");

    assert_eq!(
        put("v1/a/b%2Fc/two", b"22").await.unwrap(),
        PutOutcome::Created
    );
    assert_eq!(put("v1/z", b"").await.unwrap(), PutOutcome::Created);
    let listed = store.list("v1/").await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|found| (found.key.as_str(), found.bytes))
        .collect();
    assert_eq!(
        listed,
        [("v1/a/b%2Fc/two", 2), ("v1/a/one", 1), ("v1/z", 0)]
    );
    assert_eq!(store.list("v1/a/b%2Fc/").await.unwrap().len(), 1);
    assert_eq!(store.folders("v1/").await.unwrap(), ["v1/a/"]);
    assert_eq!(store.folders("v1/a/").await.unwrap(), ["v1/a/b%2Fc/"]);
    assert!(store.list("v1/none/").await.unwrap().is_empty());
    assert!(store.folders("v1/none/").await.unwrap().is_empty());

    let error = store.get("v1/none", 10).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(error.to_string().contains("v1/none"), "{error}");
    let error = store.get("v1/a/b%2Fc/two", 1).await.unwrap_err();
    assert!(
        matches!(error.failure, Failure::TooLarge { limit: 1 }),
        "{error}"
    );
    for key in [
        "",
        "/",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a//b",
        "a/./b",
        "a\\b",
        "a\0b",
    ] {
        let refused = store.put_new(key, Body::new()).await;
        assert!(refused.is_err(), "{key:?}");
    }

    let large = Body::from(vec![7; 3 << 20]);
    store.put_new("v1/large", large.clone()).await.unwrap();
    assert_eq!(store.get("v1/large", 4 << 20).await.unwrap(), large);
}

/// Of those who write one key at the same time, one does.
async fn one_of_many_creates(store: AnyStore) {
    let racers = (0..8_u8).map(|racer| store.put_new("v1/race", Body::from(vec![racer; 1000])));
    let outcomes = futures::future::join_all(racers).await;
    let created = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Ok(PutOutcome::Created)));
    assert_eq!(created.count(), 1, "{outcomes:?}");
}

/// A recording goes in and is found, listed and read back.
async fn holds_recordings(store: AnyStore) {
    let events = one_of_each();
    let (sealed, open) = (new_session_key(), new_session_key());
    build(&sealed, &events, 5).put_all(&store).await;
    let built = build(&open, &events, 5);
    built.put_chunk(&store, 0).await;
    built.put_chunk(&store, 1).await;

    let found = list_recordings(&store, &Filter::default()).await.unwrap();
    assert_eq!(found.len(), 2);
    let of = |key| {
        found
            .iter()
            .find(|recording| &recording.key == key)
            .unwrap()
    };
    assert_eq!(
        (of(&sealed).state, of(&sealed).chunk_count),
        (State::Sealed, events.len().div_ceil(5))
    );
    assert_eq!((of(&open).state, of(&open).chunk_count), (State::Open, 2));
    assert_eq!(of(&open).session.counts.events, 10);
    assert_eq!(of(&open).session.login.user, "ana");
    assert_eq!(of(&open).session.command, "make test");

    let date = sealed.date();
    let count = async |filter: Filter| list_recordings(&store, &filter).await.unwrap().len();
    let on = |from, to| Filter {
        from,
        to,
        ..Filter::default()
    };
    assert_eq!(count(on(Some(date), Some(date))).await, 2);
    assert_eq!(count(on(date.tomorrow().ok(), None)).await, 0);
    assert_eq!(count(on(None, date.yesterday().ok())).await, 0);
    let host = |id: &str| Filter {
        host_id: Some(id.to_owned()),
        ..Filter::default()
    };
    assert_eq!(count(host(HOST_ID)).await, 2);
    assert_eq!(count(host("web-2")).await, 0);

    let found = find_session(&store, sealed.session_id()).await.unwrap();
    assert_eq!(found.as_ref(), Some(&sealed));
    assert_eq!(
        find_session(&store, uuid::Uuid::now_v7()).await.unwrap(),
        None
    );
    let recording = Recording::open(store.clone(), sealed).await.unwrap();
    assert_eq!(recording.session().counts.events, events.len() as u64);
    assert!(
        recording
            .uri()
            .contains("/v1/host=web-1/date=2026-11-21/session=")
    );
}

#[tokio::test]
async fn a_local_folder_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("made/on/demand");
    let store: AnyStore = Arc::new(LocalStore::new(&root));
    conforms(store.clone()).await;
    one_of_many_creates(store).await;
    let hidden = std::process::Command::new("find")
        .arg(&root)
        .args(["-name", ".*"])
        .output()
        .unwrap();
    assert!(hidden.stdout.is_empty(), "temporary files are left");
}

#[tokio::test]
async fn a_local_folder_holds_recordings() {
    let dir = tempfile::tempdir().unwrap();
    holds_recordings(Arc::new(LocalStore::new(dir.path()))).await;
}

#[tokio::test]
async fn a_local_folder_that_cannot_be_written_is_a_settings_error() {
    let store = LocalStore::new("/proc/auditty");
    let error = store.put_new("v1/a", Body::new()).await.unwrap_err();
    assert!(
        error.to_string().contains("file:///proc/auditty/v1/a"),
        "{error}"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = LocalStore::new(file)
        .put_new("v1/a", Body::new())
        .await
        .unwrap_err();
    assert!(error.is_permanent_config(), "{error}");
}

#[tokio::test]
async fn s3_conforms() {
    let Some(s3) = s3() else { return };
    conforms(s3.store(&unique_prefix()).await).await;
    one_of_many_creates(s3.store(&unique_prefix()).await).await;
    holds_recordings(s3.store(&unique_prefix()).await).await;
}

/// A second implementation of S3, which checks signatures and checksums. Not that one
/// of many creates a key: it looks first and writes then.
#[tokio::test]
async fn s3_in_process_conforms() {
    let server = s3_in_process::start().await;
    let store = |prefix| -> AnyStore {
        let store = server
            .s3
            .store_as(prefix, s3_in_process::ID, s3_in_process::SECRET);
        Arc::new(store)
    };
    conforms(store("one")).await;
    holds_recordings(store("two")).await;

    let wrong = server.s3.store_as("three", s3_in_process::ID, "wrong");
    let error = wrong.put_new("v1/a", Body::new()).await.unwrap_err();
    assert!(error.is_permanent_config(), "{error}");
    assert!(
        error.to_string().contains("SignatureDoesNotMatch"),
        "{error}"
    );
}

#[tokio::test]
async fn s3_with_put_object_only_writes_and_cannot_tell_what_is_there() {
    let Some(s3) = s3() else { return };
    let (Ok(id), Ok(secret)) = (
        std::env::var("AUDITTY_TEST_S3_WRITER_KEY_ID"),
        std::env::var("AUDITTY_TEST_S3_WRITER_SECRET"),
    ) else {
        eprintln!("skipped: AUDITTY_TEST_S3_WRITER_KEY_ID and _SECRET are not set");
        return;
    };
    let prefix = unique_prefix();
    let writer = s3.store_as(&prefix, &id, &secret);
    let body = Body::from_static(b"chunk");
    assert_eq!(
        writer.put_new("v1/a", body.clone()).await.unwrap(),
        PutOutcome::Created
    );
    assert_eq!(
        writer.put_new("v1/a", body.clone()).await.unwrap(),
        PutOutcome::AlreadyUnverified
    );
    // What the key may not see is unknown, and what an answer says is known.
    let seen = writer.inspect("v1/check", body.clone()).await.unwrap();
    assert_eq!(seen.versioning, Setting::Is(true));
    assert!(matches!(&seen.lock, Setting::Hidden(_)), "{seen}");
    assert!(seen.problems.is_empty(), "{:?}", seen.problems);
    for refused in [
        writer.get("v1/a", 10).await.err(),
        writer.list("v1/").await.err(),
    ] {
        let error = refused.unwrap();
        assert!(
            error.is_permanent_config() && error.to_string().contains("403"),
            "{error}"
        );
    }
    assert_eq!(s3.store(&prefix).await.get("v1/a", 10).await.unwrap(), body);
    let wrong = s3.store_as(&prefix, &id, "wrong");
    let error = wrong.put_new("v1/b", body).await.unwrap_err();
    assert!(
        error.is_permanent_config() && error.to_string().contains("403"),
        "{error}"
    );
}

/// Looks at a bucket with settings, under a key of its own.
async fn inspected(s3: &S3, bucket: &str, options: S3Options) -> Result<Inspection, StoreError> {
    let mut config = s3.config(bucket, &unique_prefix());
    config.s3 = S3Options {
        object_lock: options.object_lock,
        encryption: options.encryption,
        tags: options.tags,
        ..config.s3
    };
    let store = config.open().await.unwrap();
    store
        .inspect("v1/check.json", Body::from_static(b"{}"))
        .await
}

#[tokio::test]
async fn s3_says_what_protects_a_bucket() {
    let Some(s3) = s3() else { return };
    let plain_bucket = format!("{}-plain", s3.bucket);
    let look = async |bucket: &str, object_lock| {
        let options = S3Options {
            object_lock,
            ..S3Options::default()
        };
        inspected(&s3, bucket, options).await
    };
    let locked = look(&s3.bucket, ObjectLock::BucketDefault).await.unwrap();
    assert_eq!(locked.versioning, Setting::Is(true));
    let compliance = Lock::For(RetentionMode::Compliance, Some(1));
    assert_eq!(locked.lock, Setting::Is(compliance));
    assert!(locked.problems.is_empty(), "{:?}", locked.problems);
    assert!(
        locked
            .to_string()
            .contains("Object Lock compliance, 1 days")
    );

    let plain = look(&plain_bucket, ObjectLock::BucketDefault).await;
    let plain = plain.unwrap();
    assert_eq!(plain.versioning, Setting::Is(false));
    assert_eq!(plain.lock, Setting::Is(Lock::Off));
    assert_eq!(plain.problems.len(), 2, "{:?}", plain.problems);
    assert!(plain.problems.join(" ").contains("store.object_lock"));
    let wanted = look(&plain_bucket, ObjectLock::Off).await.unwrap();
    assert_eq!(wanted.problems.len(), 1, "{:?}", wanted.problems);

    let explicit = ObjectLock::Explicit {
        mode: RetentionMode::Compliance,
        days: 30,
    };
    let found = look(&s3.bucket, explicit).await.unwrap();
    let thirty = Lock::For(RetentionMode::Compliance, Some(30));
    assert_eq!(found.lock, Setting::Is(thirty));
    let error = look(&plain_bucket, explicit).await.unwrap_err();
    assert!(error.is_permanent_config(), "{error}");
    assert!(error.to_string().contains("ObjectLock"), "{error}");
}

#[tokio::test]
async fn s3_objects_are_encrypted_and_tagged_as_asked() {
    let Some(s3) = s3() else { return };
    let kms = Encryption::Kms {
        key_id: Some("arn:aws:kms:us-east-1:000000000000:key/1234".into()),
    };
    let options = S3Options {
        encryption: kms,
        tags: vec![("class".into(), "session recording".into())],
        ..S3Options::default()
    };
    let found = inspected(&s3, &s3.bucket, options).await.unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let Setting::Is(encryption) = found.encryption else {
        panic!("the encryption is not known");
    };
    assert!(encryption.starts_with("aws:kms with arn"), "{encryption}");
    let aes = S3Options {
        encryption: Encryption::Aes256,
        ..S3Options::default()
    };
    let found = inspected(&s3, &s3.bucket, aes).await.unwrap();
    assert_eq!(found.encryption, Setting::Is("AES256".to_owned()));
}

#[tokio::test]
async fn s3_errors_name_the_cause() {
    let Some(s3) = s3() else { return };
    let missing = s3.config("no-such-bucket-here", "p").open().await.unwrap();
    let error = missing.put_new("v1/a", Body::new()).await.unwrap_err();
    assert!(error.is_permanent_config(), "{error}");
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
    assert!(
        error
            .to_string()
            .contains("s3://no-such-bucket-here/p/v1/a"),
        "{error}"
    );

    // A port that was free a moment ago: nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let nobody = S3 {
        endpoint: format!("http://127.0.0.1:{port}"),
        ..s3
    };
    let error = nobody
        .store("p")
        .await
        .put_new("v1/a", Body::new())
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    // For all that is known, a proxy in between has passed it on.
    assert!(error.is_unanswered(), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
}

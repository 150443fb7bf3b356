//! Tampering with stored recordings, and what verification says about it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

#[path = "verify/clean.rs"]
mod clean;
mod common;
#[path = "common/site.rs"]
mod site;

use std::fs;
use std::path::Path;

use auditty_recording::digest::Digest;
use auditty_recording::host::*;
use auditty_recording::key::ObjectName;
use auditty_recording::manifest::Manifest;
use auditty_recording::signature::{MANIFEST_NAMESPACE, SigningKey};
use auditty_recording::verify::{
    FindingKind, Known, KnownChain, RegisteredKey, Report, Scope, TrustedKeys,
};
use common::*;
use jiff::{SignedDuration, Timestamp};
use site::*;

/// A thief's signer: today's key with the state of today.
fn thief(site: &Site) -> HostSigner {
    let state = site.signer.state().clone();
    HostSigner::resume(HOST_ID, state, steal(&site.signer)).unwrap()
}

/// Replaces a sealed manifest and its signature.
fn replace(
    site: &Site,
    manifest: &Manifest,
    json: &[u8],
    signature: &str,
    key: &auditty_recording::key::SessionKey,
) {
    let sums = manifest.sha256sums(json);
    fs::write(site.path(key.object(ObjectName::Manifest)), json).unwrap();
    fs::write(
        site.path(key.object(ObjectName::ManifestSignature)),
        signature,
    )
    .unwrap();
    fs::write(site.path(key.object(ObjectName::Sha256Sums)), sums).unwrap();
}

fn manifest(site: &Site, key: &auditty_recording::key::SessionKey) -> Manifest {
    let json = fs::read(site.path(key.object(ObjectName::Manifest))).unwrap();
    Manifest::from_json(&json).unwrap()
}

/// What journald's sealing did not notice (CVE-2023-31439): the past sealed
/// again with the key of today.
#[tokio::test]
async fn a_key_of_today_cannot_seal_yesterday() {
    let (site, sessions) = Site::three_days().await;
    let victim = &sessions[0];
    let mut forged = manifest(&site, victim);
    forged.session.login.user = "mallory".to_owned();

    // As if it were yesterday: the key did not exist then.
    let key = steal(&site.signer);
    forged.signed_by = Some(site.signer.signed_by());
    let json = forged.to_json().unwrap();
    let signature = key.sign(MANIFEST_NAMESPACE, &json).unwrap();
    replace(&site, &forged, &json, &signature, victim);
    let report = site.verify(&Scope::All, &Known::default()).await;
    assert!(
        kinds(&report).contains(&FindingKind::WrongTimeKey),
        "{report:#?}"
    );
    assert!(
        kinds(&report).contains(&FindingKind::Replaced),
        "{report:#?}"
    );

    // With the time of today: yesterday's digest lists another one.
    let (json, signature) = thief(&site).seal(&mut forged, site.now).unwrap();
    replace(&site, &forged, &json, &signature, victim);
    for scope in [Scope::All, Scope::Session(victim.clone())] {
        let report = site.verify(&scope, &Known::default()).await;
        assert_eq!(kinds(&report), [FindingKind::Replaced], "{report:#?}");
        assert!(report.findings[0].object.ends_with("/manifest.json"));
    }
}

#[tokio::test]
async fn a_key_of_today_cannot_rewrite_the_digests_of_yesterday() {
    let (site, sessions) = Site::three_days().await;
    let mut forger = thief(&site);
    // Everything after the first two digests is removed, and one is made that
    // follows them and lists nothing.
    let digests: Vec<_> = site.objects().await;
    let digests = digests.iter().filter(|key| key.contains("/digest/"));
    let (mut kept, mut removed) = (None, 0);
    for key in digests {
        let parsed: HostObjectKey = key.parse().unwrap();
        match parsed.object {
            HostObject::Digest { number: 0 | 1, .. } => {
                if !parsed.signature {
                    kept = Some((parsed, fs::read_to_string(site.path(key)).unwrap()));
                }
            }
            _ => {
                fs::remove_file(site.path(key)).unwrap();
                removed += 1;
            }
        }
    }
    assert!(removed > 10);
    let (key, json) = kept.unwrap();
    let state = SignerState {
        entry: site.signer.state().entry.clone(),
        digest: Some(SignedObject {
            key,
            json,
            signature: String::new(),
        }),
    };
    forger.adopt(state).unwrap();
    let forged = forger.digest(DigestContent::default(), site.now).unwrap();
    site.put_signed(&forged.digest.unwrap()).await;
    fs::remove_dir_all(site.path(&sessions[0])).unwrap();
    let report = site.verify(&Scope::All, &Known::default()).await;
    let anchored = |finding: &&auditty_recording::verify::Finding| {
        finding.kind == FindingKind::Missing && finding.detail.contains("key log entry")
    };
    assert_eq!(
        report.findings.iter().filter(anchored).count(),
        2,
        "{report:#?}"
    );
}

#[tokio::test]
async fn a_key_log_can_only_be_continued_by_its_own_keys() {
    let (mut site, _) = Site::three_days().await;
    // A successor certified by a key that is not the newest.
    let other = SigningKey::generate().unwrap();
    let old = thief(&site);
    site.rotate().await;
    let forged = old.succeed(other, site.now).unwrap();
    let entry = &forged.state().entry;
    fs::write(site.path(&entry.key), &entry.json).unwrap();
    fs::write(site.path(entry.key.sig()), &entry.signature).unwrap();
    site.digest(DigestReason::Interval).await;
    let report = site.verify(&Scope::All, &Known::default()).await;
    assert!(
        kinds(&report).contains(&FindingKind::UnknownKey),
        "{report:#?}"
    );

    // Another log beside it.
    let (mut site, _) = Site::three_days().await;
    let new = HostSigner::begin(HOST_ID, SigningKey::generate().unwrap(), site.now).unwrap();
    site.put_signed(&new.state().entry).await;
    site.signer = new;
    let session = site.session(5).await;
    let report = site.verify(&Scope::All, &Known::default()).await;
    assert_eq!(kinds(&report), [FindingKind::UnknownKey], "{report:#?}");
    let objects: Vec<_> = report.findings.iter().map(|found| &found.object).collect();
    assert!(
        objects
            .iter()
            .any(|object| object.starts_with(&session.to_string()))
    );
}

#[tokio::test]
async fn a_clean_store_gives_no_finding_in_any_scope() {
    let (site, sessions) = Site::three_days().await;
    let known = site.known().await;
    assert_eq!(known.heads.len(), 1);
    let all = site.verify(&Scope::All, &known).await;
    assert!(all.is_verified() && all.notices.is_empty(), "{all:#?}");
    assert_eq!((all.sealed_sessions, all.open_sessions), (6, 1));
    assert_eq!(all.hosts[0].keys, 3);
    for session in &sessions {
        let scopes = [
            Scope::Session(session.clone()),
            Scope::Date(session.date(), None),
            Scope::Date(session.date(), Some(HOST_ID.to_owned())),
            Scope::Host(HOST_ID.to_owned()),
        ];
        for scope in scopes {
            let report = site.verify(&scope, &Known::default()).await;
            assert!(report.is_verified(), "{scope:?}: {report:#?}");
            assert!(report.sealed_sessions + report.open_sessions > 0);
        }
    }
    // The keys that are exported are enough, and others are not.
    let keys = auditty_recording::verify::load_keys(&site.store, HOST_ID)
        .await
        .unwrap();
    let given = |text: &str| Known {
        keys: Some(TrustedKeys::parse(text).unwrap()),
        ..Known::default()
    };
    let exported = keys.allowed_signers();
    let report = site.verify(&Scope::All, &given(&exported)).await;
    assert!(report.is_verified() && report.keys_given, "{report:#?}");
    let first = exported.lines().next().unwrap();
    assert!(site.verify(&Scope::All, &given(first)).await.is_verified());
    let other = format!("* {}", SigningKey::generate().unwrap().public());
    let report = site.verify(&Scope::All, &given(&other)).await;
    assert_eq!(kinds(&report), [FindingKind::UnknownKey], "{report:#?}");
}

/// Applies a change to a file, verifies, and undoes it.
async fn with_changed(site: &Site, known: &Known, path: &Path, content: Option<&[u8]>) -> Report {
    let before = fs::read(path).unwrap();
    match content {
        Some(content) => fs::write(path, content).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
    let report = site.verify(&Scope::All, known).await;
    fs::write(path, before).unwrap();
    report
}

/// A finding that names the object, its signed one, or the number it has.
fn names(report: &Report, object: &str) -> bool {
    let object = object.trim_end_matches(".sig");
    let file = object.rsplit('/').next().unwrap();
    report.findings.iter().any(|finding| {
        finding.object == object
            || finding.object.ends_with(&format!("…/{file}"))
            || finding.detail.contains(object)
    })
}

#[tokio::test]
async fn every_object_dropped_flipped_or_cut_is_named() {
    let (site, _) = Site::three_days().await;
    let known = site.known().await;
    for object in site.objects().await {
        let path = site.path(&object);
        let content = fs::read(&path).unwrap();
        let mut changes: Vec<Option<Vec<u8>>> = vec![None, Some(Vec::new())];
        changes.push(Some(content[..content.len() / 2].to_vec()));
        for at in [0, content.len() / 3, content.len() / 2, content.len() - 2] {
            let mut flipped = content.clone();
            flipped[at] ^= 1;
            changes.push(Some(flipped));
        }
        for change in changes {
            let report = with_changed(&site, &known, &path, change.as_deref()).await;
            let what = change.map(|change| change.len());
            assert!(!report.is_verified(), "{object}: {what:?}");
            assert!(names(&report, &object), "{object}: {what:?}: {report:#?}");
        }
    }
    assert!(site.verify(&Scope::All, &known).await.is_verified());
}

#[tokio::test]
async fn every_byte_of_a_recording_counts() {
    let mut site = Site::new();
    site.begin().await;
    let session = site.session(20).await;
    site.digest(DigestReason::Interval).await;
    let scope = Scope::Session(session.clone());
    for object in site.objects().await {
        if !object.starts_with(&session.to_string()) {
            continue;
        }
        let path = site.path(&object);
        let content = fs::read(&path).unwrap();
        // The last line feed of a signature is no part of it.
        let end = content.len() - usize::from(object.ends_with(".sig"));
        for at in 0..end {
            let mut flipped = content.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            let report = site.verify(&scope, &Known::default()).await;
            assert!(!report.is_verified(), "{object}: byte {at}");
        }
        fs::write(&path, &content).unwrap();
    }
    assert!(site.verify(&scope, &Known::default()).await.is_verified());
}

#[tokio::test]
async fn every_swap_and_copy_is_noticed() {
    let (site, _) = Site::three_days().await;
    let known = site.known().await;
    let objects = site.objects().await;
    let suffix = |key: &str| {
        let name = key.rsplit('/').next().unwrap();
        name.rsplit('.').next().unwrap().to_owned()
    };
    let mut swapped = 0;
    for (at, one) in objects.iter().enumerate() {
        for other in objects.iter().skip(at + 1).step_by(3) {
            if suffix(one) != suffix(other) {
                continue;
            }
            let (a, b) = (site.path(one), site.path(other));
            let (content_a, content_b) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
            fs::write(&a, &content_b).unwrap();
            let copied = site.verify(&Scope::All, &known).await;
            fs::write(&b, &content_a).unwrap();
            let both = site.verify(&Scope::All, &known).await;
            fs::write(&a, &content_a).unwrap();
            fs::write(&b, &content_b).unwrap();
            assert!(names(&copied, one), "{one} is {other}: {copied:#?}");
            assert!(!both.is_verified(), "{one} and {other}");
            swapped += 1;
        }
    }
    assert!(swapped > 200, "{swapped}");
}

#[tokio::test]
async fn the_kind_of_a_change_is_told() {
    let (site, sessions) = Site::three_days().await;
    let known = Known::default();
    let session = &sessions[0];
    let chunk = |number: u32| site.path(session.chunk(number));
    let kinds_with = async |path: &Path, content: Option<&[u8]>| {
        kinds(&with_changed(&site, &known, path, content).await)
    };
    let (first, second) = (fs::read(chunk(0)).unwrap(), fs::read(chunk(1)).unwrap());
    assert_eq!(kinds_with(&chunk(1), None).await, [FindingKind::Missing,]);
    assert_eq!(
        kinds_with(&chunk(1), Some(&first)).await,
        [FindingKind::Duplicated]
    );
    assert_eq!(
        kinds_with(&chunk(1), Some(&second[..9])).await,
        [FindingKind::Truncated]
    );
    fs::write(chunk(0), &second).unwrap();
    assert_eq!(
        kinds_with(&chunk(1), Some(&first)).await,
        [FindingKind::Reordered]
    );
    fs::write(chunk(0), &first).unwrap();
    let beyond = chunk(99);
    fs::write(&beyond, &second).unwrap();
    let report = site.verify(&Scope::All, &known).await;
    assert!(
        kinds(&report).contains(&FindingKind::Duplicated),
        "{report:#?}"
    );
    fs::remove_file(beyond).unwrap();
    // An open recording that loses its end.
    let open = sessions.last().unwrap();
    let report = with_changed(&site, &known, &site.path(open.chunk(1)), None).await;
    assert_eq!(kinds(&report), [FindingKind::RolledBack], "{report:#?}");
}

#[tokio::test]
async fn a_removed_session_day_or_store_is_noticed() {
    let (site, sessions) = Site::three_days().await;
    let known = site.known().await;
    let session = &sessions[2];
    let (day, away) = (session.date(), site.dir.path().join("away"));
    fs::rename(site.path(session), &away).unwrap();
    for scope in [
        Scope::All,
        Scope::Session(session.clone()),
        Scope::Date(day, None),
    ] {
        let report = site.verify(&scope, &Known::default()).await;
        assert_eq!(
            kinds(&report),
            [FindingKind::Missing],
            "{scope:?}: {report:#?}"
        );
        assert_eq!(report.findings[0].object, session.to_string());
    }
    fs::rename(&away, site.path(session)).unwrap();

    // The day with its digests.
    let folder = site.path(format!("v1/host={HOST_ID}/date={day}"));
    let digests = site.path(format!(
        "v1/host={HOST_ID}/digest/log={}/date={day}",
        site.signer.entry().log
    ));
    let kept = tempfile::tempdir_in(site.dir.path()).unwrap();
    for (number, folder) in [&folder, &digests].into_iter().enumerate() {
        fs::rename(folder, kept.path().join(number.to_string())).unwrap();
    }
    let report = site.verify(&Scope::All, &Known::default()).await;
    let missing = |finding: &&auditty_recording::verify::Finding| {
        finding.object.contains("/digest/") && finding.kind == FindingKind::Missing
    };
    assert!(
        report.findings.iter().filter(missing).count() >= 4,
        "{report:#?}"
    );
    for (number, folder) in [&folder, &digests].into_iter().enumerate() {
        fs::rename(kept.path().join(number.to_string()), folder).unwrap();
    }
    assert!(site.verify(&Scope::All, &known).await.is_verified());

    // Everything.
    fs::remove_dir_all(site.path("v1")).unwrap();
    let report = site.verify(&Scope::All, &known).await;
    assert!(
        kinds(&report).contains(&FindingKind::RolledBack),
        "{report:#?}"
    );
}

#[tokio::test]
async fn a_store_of_yesterday_is_noticed_by_who_remembers_today() {
    let (mut site, _) = Site::three_days().await;
    let old = tempfile::tempdir_in(site.dir.path()).unwrap();
    let copied = std::process::Command::new("cp")
        .args([
            "-a".as_ref(),
            site.path("v1").as_os_str(),
            old.path().as_os_str(),
        ])
        .status();
    assert!(copied.unwrap().success());
    site.session(5).await;
    site.digest(DigestReason::Interval).await;
    let known = site.known().await;
    fs::remove_dir_all(site.path("v1")).unwrap();
    fs::rename(old.path().join("v1"), site.path("v1")).unwrap();
    assert!(
        site.verify(&Scope::All, &Known::default())
            .await
            .is_verified()
    );
    let report = site.verify(&Scope::All, &known).await;
    assert_eq!(kinds(&report), [FindingKind::RolledBack], "{report:#?}");
}

#[tokio::test]
async fn a_collectors_chain_head_is_compared() {
    let (site, sessions) = Site::three_days().await;
    let manifest = manifest(&site, &sessions[0]);
    let chunk = &manifest.chunks[1];
    let known = |chunks, head| Known {
        chain_heads: vec![KnownChain {
            session: sessions[0].clone(),
            chunks,
            chain_head: head,
            by: "a receipt".to_owned(),
        }],
        ..Known::default()
    };
    let scope = Scope::Session(sessions[0].clone());
    let good = site.verify(&scope, &known(2, chunk.chain_head)).await;
    assert!(good.is_verified(), "{good:#?}");
    let report = site.verify(&scope, &known(1, chunk.chain_head)).await;
    assert_eq!(kinds(&report), [FindingKind::Changed]);
    let report = site.verify(&scope, &known(99, chunk.chain_head)).await;
    assert_eq!(kinds(&report), [FindingKind::RolledBack]);
}

#[tokio::test]
async fn what_a_host_has_registered_is_trusted_and_nothing_else() {
    let (site, sessions) = Site::three_days().await;
    let log = site.signer.entry().log.clone();
    let registered = |number: u64| {
        let entry = site.path(HostObjectKey {
            host_id: HOST_ID.to_owned(),
            object: HostObject::Key {
                log: log.clone(),
                number,
            },
            signature: false,
        });
        RegisteredKey {
            host_id: HOST_ID.to_owned(),
            log: log.clone(),
            number,
            sha256: Digest::of(&fs::read(entry).unwrap_or_default()),
        }
    };
    let known = |keys: Vec<RegisteredKey>| Known {
        registered: keys,
        ..Known::default()
    };
    // A collector that came late, and an entry on its way to the store.
    let report = site
        .verify(&Scope::All, &known(vec![registered(1), registered(99)]))
        .await;
    assert!(report.is_verified(), "{report:#?}");
    assert_eq!(report.registered_keys, 2);
    let mut other = registered(1);
    other.sha256 = Digest::of(b"another entry");
    let report = site
        .verify(&Scope::All, &known(vec![registered(0), other]))
        .await;
    assert_eq!(kinds(&report), [FindingKind::Replaced], "{report:#?}");
    // The whole host was made anew, with other keys: good in itself.
    let (forged, _) = Site::three_days().await;
    let all = known(vec![registered(0), registered(1), registered(2)]);
    let itself = forged.verify(&Scope::All, &Known::default()).await;
    assert!(itself.is_verified());
    let report = forged.verify(&Scope::All, &all).await;
    assert!(
        kinds(&report).contains(&FindingKind::UnknownKey),
        "{report:#?}"
    );
    // Of one session, the newest digest says nothing: it is not looked for.
    let newest = Known {
        registered: all.registered.clone(),
        ..site.known().await
    };
    let scope = Scope::Session(sessions[0].clone());
    assert!(site.verify(&scope, &newest).await.is_verified());
    fs::remove_dir_all(site.path("v1")).unwrap();
    let report = site.verify(&Scope::All, &newest).await;
    assert!(
        kinds(&report).contains(&FindingKind::RolledBack),
        "{report:#?}"
    );
}

#[tokio::test]
async fn stock_tools_verify_a_store_and_notice_tampering() {
    let (site, sessions) = Site::three_days().await;
    let folder = site.dir.path().as_os_str();
    let run = |args: &[&std::ffi::OsStr]| {
        let output = script(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, said) = run(&[folder]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("VERIFIED: 6 recordings, 3 keys"), "{said}");
    let keys = auditty_recording::verify::load_keys(&site.store, HOST_ID)
        .await
        .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), keys.allowed_signers()).unwrap();
    let all = std::ffi::OsStr::new("-a");
    let (code, said) = run(&[all, folder, file.path().as_os_str()]);
    assert_eq!(code, Some(0), "{said}");
    let other = SigningKey::generate().unwrap().public();
    fs::write(file.path(), format!("{HOST_ID} {other}\n")).unwrap();
    let (code, _) = run(&[folder, file.path().as_os_str()]);
    assert_eq!(code, Some(1));

    // One object of each kind, changed or removed in turn.
    let objects = site.objects().await;
    let session = sessions[1].to_string();
    let chosen = objects.iter().filter(|key| {
        let one_chunk = key.ends_with("/000001.jsonl.zst") || !key.ends_with(".zst");
        let of_session = key.starts_with(&session) && one_chunk && !key.contains("/manifest-");
        of_session || key.ends_with("/000001.json")
    });
    let mut flip = false;
    for object in chosen {
        let path = site.path(object);
        let content = fs::read(&path).unwrap();
        flip = !flip;
        if flip {
            let mut flipped = content.clone();
            flipped[content.len() / 2] ^= 1;
            fs::write(&path, &flipped).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        let (code, said) = run(&[all, folder]);
        assert_eq!(code, Some(1), "{object}: {said}");
        fs::write(&path, &content).unwrap();
    }
    let (code, said) = run(&[all, folder]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_clock_that_goes_back_breaks_no_order() {
    let now: Timestamp = start();
    let mut signer = HostSigner::begin(HOST_ID, SigningKey::generate().unwrap(), now).unwrap();
    let later = now + SignedDuration::from_hours(2);
    let state = signer.digest(DigestContent::default(), later).unwrap();
    signer.adopt(state).unwrap();
    let state = signer.digest(DigestContent::default(), now).unwrap();
    let digest = HostDigest::from_json(state.digest.unwrap().json.as_bytes()).unwrap();
    assert_eq!(digest.time, later);
    let next = signer
        .succeed(SigningKey::generate().unwrap(), now)
        .unwrap();
    assert!(next.entry().not_before > later);
}

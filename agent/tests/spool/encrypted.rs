//! What is encrypted is read by its recipients, and by nobody else: not by the
//! host that wrote it.

use std::fs;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auditty_agent::delivery::{Point, Spool, SpoolOptions};
use auditty_agent::sessions::sink::Sink as _;
use auditty_recording::Bytes;
use auditty_recording::chunk::ChunkReader;
use auditty_recording::encryption::{Identities, Recipient, Recipients};
use auditty_recording::event::{Body, Event, Input, Output, Stream};
use auditty_recording::reader::{Item, Recording, session_keys};
use auditty_recording::store::AnyStore;
use auditty_recording::verify::{Known, Scope, verify};
use base64::Engine as _;

use crate::common::*;

/// Two auditors; the second one alone reads what was typed.
pub struct Auditors {
    folder: PathBuf,
}

impl Auditors {
    /// Makes their keys: one of age, one of OpenSSH.
    pub fn begin(folder: &Path) -> Self {
        let keygen = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(folder);
            let output = command.output().expect("age and ssh-keygen are installed");
            assert!(output.status.success(), "{output:?}");
        };
        keygen("age-keygen", &["-o", "all.key"]);
        keygen(
            "ssh-keygen",
            &["-qt", "ed25519", "-N", "", "-f", "input.key"],
        );
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Those whose keys are in a folder.
    pub fn of(folder: &Path) -> Option<Self> {
        let folder = folder.to_owned();
        folder.join("all.key").exists().then_some(Self { folder })
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn public(&self) -> [Recipient; 2] {
        let all = fs::read_to_string(self.key("all.key")).unwrap();
        let all = all
            .lines()
            .find_map(|line| line.strip_prefix("# public key: "));
        let input = fs::read_to_string(self.key("input.key.pub")).unwrap();
        [all.unwrap().parse().unwrap(), input.parse().unwrap()]
    }

    /// Both read all but the input, which only the second one does.
    pub fn recipients(&self) -> Arc<Recipients> {
        let [all, input] = self.public();
        Arc::new(Recipients::new(vec![all, input.clone()], vec![input]).unwrap())
    }

    pub fn identities(&self, names: &[&str]) -> Identities {
        let mut identities = Identities::default();
        for name in names {
            let text = fs::read_to_string(self.key(name)).unwrap();
            identities.add(&text, || None).unwrap();
        }
        identities
    }

    /// Events of the chunks of a folder, in order, without the input.
    pub fn events(&self, folder: &Path) -> Vec<Event> {
        let identities = self.identities(&["all.key"]);
        let mut events = Vec::new();
        for name in names(folder) {
            if name.ends_with(".jsonl.zst.age") && !name.contains(".input.") {
                let file = BufReader::new(fs::File::open(folder.join(name)).unwrap());
                let chunk = ChunkReader::new(identities.open(file).unwrap()).unwrap();
                events.extend(chunk.map(|record| record.unwrap().event.unwrap()));
            }
        }
        events
    }

    /// What stock `age` and `zstd` read.
    fn stock(&self, key: &str, folder: &Path, suffix: &str) -> String {
        let pipe = format!(
            "for chunk in *{suffix}; do age -d -i {} \"$chunk\" || exit; done | zstd -dcq",
            self.key(key).display()
        );
        let pipe = Command::new("sh")
            .args(["-c", &pipe])
            .current_dir(folder)
            .output();
        let pipe = pipe.unwrap();
        assert!(pipe.status.success() && pipe.stderr.is_empty(), "{pipe:?}");
        String::from_utf8(pipe.stdout).unwrap()
    }
}

const SECRETS: [&str; 4] = [
    "canary-shown",
    "canary-typed",
    "canary-argv",
    "canary-asked",
];

fn shown(text: &str, offset: u64) -> Body {
    Body::Output(Output {
        stream: Stream::Terminal,
        terminal: Some(0),
        offset,
        data: Bytes(text.as_bytes().to_vec()),
        omitted_bytes: None,
    })
}

fn typed(text: &str, offset: u64) -> Body {
    Body::Input(Input {
        stream: Stream::Terminal,
        terminal: Some(0),
        offset,
        data: Bytes(text.as_bytes().to_vec()),
        masked_bytes: None,
        omitted_bytes: None,
        encrypted_bytes: None,
    })
}

/// Files below a folder that hold a secret, plain or as base64.
fn leaks(folder: &Path) -> Vec<PathBuf> {
    let mut wanted = Vec::new();
    for secret in SECRETS {
        wanted.push(secret.as_bytes().to_vec());
        for shift in 0..3 {
            let shifted = [&b"..."[..shift], secret.as_bytes()].concat();
            let text = base64::prelude::BASE64_STANDARD_NO_PAD.encode(shifted);
            // The ends depend on what is beside it.
            wanted.push(text.as_bytes()[4..text.len() - 3].to_vec());
        }
    }
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let raw = fs::read(entry.path()).unwrap();
            let mut plain = Vec::new();
            let _ = zstd::Decoder::new(raw.as_slice()).map(|mut file| file.read_to_end(&mut plain));
            let holds = |bytes: &[u8]| {
                let mut wanted = wanted.iter();
                wanted.any(|wanted| bytes.windows(wanted.len()).any(|part| part == wanted))
            };
            if holds(&raw) || holds(&plain) {
                found.push(entry.path());
            }
        }
    }
    found
}

fn commit(spool: &mut Spool) {
    spool.commit(&Point {
        marks: Default::default(),
        declared: None,
        connections: Default::default(),
    });
}

fn encrypted() -> (Bench, Auditors) {
    let mut bench = Bench::in_memory();
    let auditors = Auditors::begin(bench.folder.path());
    bench.recipients = Some(auditors.recipients());
    (bench, auditors)
}

/// Begins a session with every secret in it.
fn telling(spool: &mut Spool) -> Taker {
    let mut taker = Taker::begin(spool);
    taker.record.session.command = "canary-asked".into();
    spool.changed(&taker.record);
    for body in [
        shown("a canary-shown b", 0),
        typed("canary-typed\r", 0),
        exec("canary-argv"),
    ] {
        taker.give(spool, body);
    }
    taker
}

async fn open(store: &AnyStore, keys: Identities) -> Recording {
    let found = session_keys(store, &Default::default()).await.unwrap();
    let [key] = found.try_into().unwrap();
    Recording::open_with(Arc::clone(store), key, keys)
        .await
        .unwrap()
}

/// Input events with their bytes, and how many chunks could not be read.
async fn input(store: &AnyStore, keys: Identities) -> (String, usize) {
    let recording = open(store, keys).await;
    let (mut text, mut locked) = (String::new(), 0);
    let mut records = recording.records();
    while let Some(item) = records.next().await.unwrap() {
        match item {
            Item::Record(record) => {
                if let Some(Body::Input(input)) = record.event.map(|event| event.body) {
                    text.push_str(std::str::from_utf8(&input.data.0).unwrap());
                }
            }
            Item::Issue(issue) => {
                assert!(issue.to_string().contains("encrypted"), "{issue}");
                locked += 1;
            }
        }
    }
    (text, locked)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_recipients_read_and_verification_takes_no_key() {
    let (bench, auditors) = encrypted();
    let store = bench.store().await;
    let (mut spool, _) = bench.spool().await;
    spool.begin_journal(Some("rings"), None).unwrap();
    let mut taker = telling(&mut spool);
    // Pieces, as they come five times a second, and the death of the agent.
    commit(&mut spool);
    taker.give(&mut spool, typed("more canary-typed", 13));
    commit(&mut spool);
    assert_eq!(leaks(&bench.path("spool")), [] as [PathBuf; 0]);
    let pieces = bench.session_folder(&taker.record).join("open.pieces");
    assert!(fs::metadata(&pieces).unwrap().len() > 0);
    drop(spool);
    let (mut spool, resumable) = bench.spool().await;
    assert!(!pieces.exists());
    let mut taker = Taker::resume(resumable[0].clone());
    taker.give(&mut spool, exec("canary-argv"));
    taker.give(&mut spool, typed("canary-typed again", 30));
    taker.finish(&mut spool);
    deliver(spool, &store).await;
    for folder in ["spool", "store"] {
        assert_eq!(leaks(&bench.path(folder)), [] as [PathBuf; 0]);
    }

    let folder = stored(&bench.path("store"), taker.id()).unwrap();
    // Two pieces, and a chunk that ended as it should; each with its input.
    let chunks = names(&folder);
    let chunks: Vec<_> = chunks
        .iter()
        .filter(|name| name.ends_with(".age"))
        .collect();
    assert_eq!(chunks.len(), 6, "{chunks:?}");
    let all = auditors.stock("all.key", &folder, "[0-9].jsonl.zst.age");
    for secret in ["canary-shown", "canary-argv", "\"encrypted_bytes\":13"] {
        assert!(all.contains(secret), "{all}");
    }
    assert!(!all.contains("canary-typed"));
    let typed = auditors.stock("input.key", &folder, ".input.jsonl.zst.age");
    assert_eq!(typed.matches("canary-typed").count(), 3);
    let seqs: Vec<u64> = auditors
        .events(&folder)
        .iter()
        .map(|event| event.seq)
        .collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let mut sums = Command::new("sha256sum");
    sums.args(["-c", "SHA256SUMS"]).current_dir(&folder);
    assert!(sums.output().unwrap().status.success());

    let recording = open(&store, Identities::default()).await;
    let [to] = recording.encryption() else {
        panic!("{:?}", recording.encryption());
    };
    let (recipients, input_recipients) = auditors.recipients().texts();
    assert_eq!(
        (&to.recipients, &to.input_recipients),
        (&recipients, &input_recipients)
    );
    let counts = recording.session().counts;
    assert_eq!((counts.commands, counts.input_bytes), (2, 48));
    assert_eq!(recording.session().command, "");

    assert_eq!(
        input(&store, Identities::default()).await,
        (String::new(), 3)
    );
    let nothing = input(&store, auditors.identities(&["all.key"])).await;
    assert_eq!(nothing, (String::new(), 0));
    let both = input(&store, auditors.identities(&["all.key", "input.key"])).await;
    assert_eq!(both.0, "canary-typed\rmore canary-typedcanary-typed again");

    for (keys, opened) in [(&[][..], 0), (&["all.key"], 3), (&["input.key"], 6)] {
        let known = Known {
            identities: auditors.identities(keys),
            ..Known::default()
        };
        let report = verify(&store, &Scope::All, &known, &|_| {}).await.unwrap();
        assert!(report.is_verified(), "{report:#?}");
        assert_eq!((report.encrypted_chunks, report.opened_chunks), (6, opened));
    }
    let script = bench.path("verify.sh");
    fs::write(&script, auditty_recording::verify::SCRIPT).unwrap();
    for identity in [None, Some("all.key"), Some("input.key")] {
        let mut check = Command::new("sh");
        check.arg(&script).arg("-a");
        if let Some(identity) = identity {
            check.arg("-i").arg(auditors.key(identity));
        }
        let output = check.arg(bench.path("store")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            text.contains("ENCRYPTED"),
            identity != Some("input.key"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tampering_with_encrypted_chunks_is_found_without_a_key() {
    let (bench, _) = encrypted();
    let store = bench.store().await;
    let (mut spool, _) = bench.spool().await;
    let mut taker = telling(&mut spool);
    taker.finish(&mut spool);
    deliver(spool, &store).await;
    let folder = stored(&bench.path("store"), taker.id()).unwrap();
    let wrong = async || {
        let report = verify(&store, &Scope::All, &Known::default(), &|_| {}).await;
        let findings = report.unwrap().findings;
        findings
            .iter()
            .map(|found| found.object.clone())
            .collect::<Vec<_>>()
    };
    assert!(wrong().await.is_empty());
    for name in ["000000.jsonl.zst.age", "000001.input.jsonl.zst.age"] {
        let path = folder.join(name);
        let content = fs::read(&path).unwrap();
        let mut flipped = content.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for changed in [flipped, content[..content.len() - 1].to_vec()] {
            fs::write(&path, changed).unwrap();
            let found = wrong().await;
            assert!(found.len() == 1 && found[0].ends_with(name), "{found:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(wrong().await[0].ends_with(name));
        fs::write(&path, &content).unwrap();
        // The same content in another form is another object.
        let beside = folder.join(name.trim_end_matches(".age").replace(".input", ""));
        fs::write(&beside, &content).unwrap();
        assert!(!wrong().await.is_empty(), "{}", beside.display());
        fs::remove_file(beside).unwrap();
    }
    assert!(wrong().await.is_empty());
}

/// Of the files that the seal of a chunk and its input writes, what is there when
/// the agent dies in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_was_not_finished_is_finished_or_begun_again() {
    for step in 0..6 {
        let (bench, auditors) = encrypted();
        let options = SpoolOptions {
            chunk_interval: Duration::from_millis(1),
            ..bench.options()
        };
        let (mut spool, _) = Spool::open(options, bench.store().await, None).unwrap();
        let (main, input) = ("000000.jsonl.zst.age", "000001.input.jsonl.zst.age");
        let taker = telling(&mut spool);
        commit(&mut spool);
        let folder = bench.session_folder(&taker.record);
        let pieces = fs::read(folder.join("open.pieces")).unwrap();
        until(&mut spool, "the seal", |_| folder.join(main).exists()).await;
        drop(spool);
        // Back from the end, step by step.
        fs::write(folder.join("open.pieces"), &pieces).unwrap();
        let back = |name: &str| {
            fs::rename(folder.join(name), folder.join(format!("{name}.new"))).unwrap();
        };
        if step > 0 {
            back(input);
        }
        if step > 1 {
            back(main);
        }
        if step > 2 {
            fs::remove_file(folder.join("000000.json")).unwrap();
        }
        if step > 3 {
            fs::remove_file(folder.join("000001.json")).unwrap();
        }
        if step > 4 {
            fs::write(folder.join(format!("{input}.new")), "half").unwrap();
        }
        let (mut spool, resumable) = bench.spool().await;
        let mut taker = Taker::resume(resumable[0].clone());
        taker.finish(&mut spool);
        let store = bench.store().await;
        deliver(spool, &store).await;
        assert_verified(&store).await;
        let folder = stored(&bench.path("store"), taker.id()).unwrap();
        let events = auditors.events(&folder);
        let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, [1, 2, 3, 4], "step {step}");
        let typed = input_of(&store, &auditors).await;
        assert_eq!(typed, "canary-typed\r", "step {step}");
    }
}

async fn input_of(store: &AnyStore, auditors: &Auditors) -> String {
    input(store, auditors.identities(&["input.key"])).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_cost_no_more_than_they_held() {
    for damaged in ["open.pieces", "record.json", "000000.json", "tail"] {
        let (bench, auditors) = encrypted();
        let (mut spool, _) = bench.spool().await;
        let mut taker = Taker::begin(&mut spool);
        for number in 0..10 {
            taker.give(&mut spool, marker(number));
        }
        commit(&mut spool);
        drop(spool);
        let (mut spool, resumable) = bench.spool().await;
        taker.record = resumable[0].clone();
        let folder = bench.session_folder(&taker.record);
        for number in 0..10 {
            taker.give(&mut spool, marker(number));
            commit(&mut spool);
        }
        spool.changed(&taker.record);
        until(&mut spool, "a sync", |spool| !spool.is_syncing()).await;
        until(&mut spool, "the record", |_| {
            let record = fs::read_to_string(folder.join("record.json")).unwrap();
            record.contains(&format!("\"next_seq\":{}", taker.record.next_seq))
        })
        .await;
        drop(spool);
        let path = folder.join(if damaged == "tail" {
            "open.pieces"
        } else {
            damaged
        });
        let mut content = fs::read(&path).unwrap();
        match damaged {
            "tail" => content.truncate(content.len() - 5),
            _ => {
                let middle = content.len() / 2;
                content[middle..].iter_mut().for_each(|byte| *byte ^= 0x5a);
            }
        }
        fs::write(&path, content).unwrap();
        let (mut spool, resumable) = bench.spool().await;
        let mut resumed = Taker::resume(resumable[0].clone());
        resumed.finish(&mut spool);
        let store = bench.store().await;
        deliver(spool, &store).await;
        assert_verified(&store).await;
        let known = Known {
            identities: auditors.identities(&["all.key"]),
            ..Known::default()
        };
        let report = verify(&store, &Scope::All, &known, &|_| {}).await.unwrap();
        assert!(report.is_verified(), "{damaged}: {report:#?}");
        let events = auditors.events(&stored(&bench.path("store"), taker.id()).unwrap());
        let (recorded, declared) = account(&events);
        assert_eq!(recorded + declared, taker.given, "{damaged}");
        let held = names(&bench.path("spool/quarantine"));
        match damaged {
            "tail" => assert!(recorded == 19 && held.is_empty(), "{recorded} {held:?}"),
            "open.pieces" => assert!(recorded > 10 && recorded < 20, "{recorded}"),
            _ => assert_eq!(declared, 0, "{damaged}"),
        }
        assert_eq!(held.is_empty(), damaged == "tail", "{damaged}: {held:?}");
    }
}

/// What encryption costs, for who reads the output; and that a chunk is one
/// object however often it was cut.
#[tokio::test(flavor = "multi_thread")]
async fn many_pieces_become_one_chunk() {
    let line = "-rw-r--r-- 1 root root  12345 Nov 21 12:00 \u{1b}[01;32mfile\u{1b}[0m\r\n";
    let text = line.repeat(500);
    let mut taken = Vec::new();
    for encrypt in [false, true] {
        let (mut bench, auditors) = encrypted();
        if !encrypt {
            bench.recipients = None;
        }
        let (mut spool, _) = bench.spool().await;
        let mut taker = Taker::begin(&mut spool);
        let begin = Instant::now();
        for number in 0..200_u64 {
            taker.give(&mut spool, shown(&text, number * text.len() as u64));
            if number % 5 == 0 {
                commit(&mut spool);
            }
        }
        taker.finish(&mut spool);
        spool.close();
        taken.push(begin.elapsed());
        let store = bench.store().await;
        deliver(spool, &store).await;
        let folder = stored(&bench.path("store"), taker.id()).unwrap();
        let chunks = names(&folder);
        let chunks: Vec<_> = chunks
            .iter()
            .filter(|name| name.contains(".jsonl."))
            .collect();
        assert_eq!(chunks.len(), 1, "{chunks:?}");
        if encrypt {
            assert_eq!(auditors.events(&folder).len(), 201);
        }
    }
    let mb = (200 * text.len()) as f64 / 1e6;
    let per_mb = |at: usize| taken[at].as_secs_f64() * 1e3 / mb;
    println!(
        "{:.2} ms per MB in the clear, {:.2} ms encrypted",
        per_mb(0),
        per_mb(1)
    );
}

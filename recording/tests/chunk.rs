//! Chunks: round trips, every possible truncation, damage, bounds, and the
//! stock tools as independent readers.

#![allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use auditty_recording::chunk::{ChunkError, ChunkReader, ChunkWriter, MAX_LINE_BYTES, Record};
use auditty_recording::digest::Digest;
use auditty_recording::event::{Body, Event};
use common::*;

fn read(bytes: &[u8]) -> (Vec<Record>, Option<ChunkError>) {
    let mut records = Vec::new();
    match ChunkReader::new(bytes) {
        Err(error) => return (records, Some(error)),
        Ok(reader) => {
            for record in reader {
                match record {
                    Ok(record) => records.push(record),
                    Err(error) => return (records, Some(error)),
                }
            }
        }
    }
    (records, None)
}

fn events(records: &[Record]) -> Vec<Event> {
    records
        .iter()
        .map(|record| record.event.clone().unwrap())
        .collect()
}

/// Bytes without any pattern, the same in every run.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// JSON Lines behind a valid header, compressed in one go.
fn chunk_of(lines: &[u8]) -> Vec<u8> {
    let key = new_session_key();
    let mut plain = serde_json::to_vec(&header(&key, 0, Digest::ZERO, 1)).unwrap();
    plain.push(b'\n');
    plain.extend_from_slice(lines);
    zstd::encode_all(plain.as_slice(), 1).unwrap()
}

#[test]
fn every_kind_comes_back_as_it_was() {
    let key = new_session_key();
    let all = one_of_each();
    let (sealed, bytes) = seal(header(&key, 3, Digest::of(b"x"), 1), &all);
    let (records, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events(&records), all);
    assert_eq!(sealed.sha256, Digest::of(&bytes));
    assert_eq!(sealed.bytes, bytes.len() as u64);
    assert_eq!((sealed.first_seq, sealed.last_seq), (1, all.len() as u64));
    let plain = zstd::decode_all(bytes.as_slice()).unwrap();
    assert_eq!(sealed.uncompressed_bytes, plain.len() as u64);
    assert_eq!(
        ChunkReader::new(bytes.as_slice()).unwrap().header(),
        &sealed.header
    );
    let kinds: Vec<_> = all.iter().map(|event| event.body.kind()).collect();
    for kind in auditty_recording::event::KINDS {
        assert!(kinds.contains(&kind), "{kind} is not tested");
    }
}

#[test]
fn random_bytes_of_any_length_come_back_exactly() {
    let key = new_session_key();
    let all: Vec<Event> = (1..200)
        .map(|seq| event(seq, output(&noise((seq as usize * 37) % 5000, seq))))
        .collect();
    let (_, bytes) = seal(header(&key, 0, Digest::ZERO, 1), &all);
    let (records, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events(&records), all);
}

#[test]
fn truncation_at_any_byte_keeps_a_prefix_and_is_named() {
    let key = new_session_key();
    let mut writer = ChunkWriter::new(Vec::new(), header(&key, 0, Digest::ZERO, 1)).unwrap();
    let mut flushed = Vec::new();
    let all: Vec<Event> = (1..40)
        .map(|seq| event(seq, output(&noise(60, seq))))
        .collect();
    for event in &all {
        writer.append(event).unwrap();
        writer.flush().unwrap();
        flushed.push(writer.get_ref().len());
    }
    let (_, bytes) = writer.finish().unwrap();
    for length in 0..bytes.len() {
        let (records, error) = read(&bytes[..length]);
        let good = flushed.iter().filter(|&&end| end <= length).count();
        assert!(
            records.len() >= good,
            "{length}: {} of {good}",
            records.len()
        );
        assert_eq!(events(&records), all[..records.len()], "{length}");
        let error = error.expect("a truncated chunk is not whole");
        match (length, &error) {
            (0, ChunkError::Empty) => {}
            (1.., ChunkError::Truncated { bytes }) => assert_eq!(*bytes, length as u64),
            other => panic!("{other:?}"),
        }
    }
    assert!(read(&bytes).1.is_none());
}

#[test]
fn a_flipped_bit_anywhere_never_passes_as_good_data() {
    let key = new_session_key();
    let all: Vec<Event> = (1..30)
        .map(|seq| event(seq, output(&noise(80, seq))))
        .collect();
    let (_, bytes) = seal(header(&key, 0, Digest::ZERO, 1), &all);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let (records, error) = read(&damaged);
        // The frame descriptor has unused bits that change nothing.
        let same = error.is_none() && events(&records) == all;
        assert!(error.is_some() || same, "byte {at}");
    }
}

#[test]
fn garbage_is_an_error_and_never_a_panic() {
    for seed in 0..2000 {
        let mut bytes = noise(seed as usize % 300, seed);
        if seed % 2 == 0 {
            bytes.splice(0..0, [0x28, 0xb5, 0x2f, 0xfd]);
        }
        assert!(read(&bytes).1.is_some());
    }
}

#[test]
fn frames_may_be_concatenated() {
    let lines: Vec<u8> = one_of_each()
        .iter()
        .flat_map(|event| {
            serde_json::to_vec(event)
                .unwrap()
                .into_iter()
                .chain([b'\n'])
        })
        .collect();
    let mut bytes = chunk_of(b"");
    for piece in lines.chunks(100) {
        bytes.extend(zstd::encode_all(piece, 1).unwrap());
    }
    let (records, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events(&records), one_of_each());
}

#[test]
fn unknown_kinds_and_fields_pass_and_bad_lines_are_skipped() {
    let line = |seq, rest: &str| {
        format!("{{\"seq\":{seq},\"time\":\"2026-11-21T10:00:00Z\",\"boot_ns\":1,{rest}}}\n")
    };
    let lines = [
        line(1, r#""kind":"hologram","depth":3"#),
        "not json\n".to_owned(),
        line(
            2,
            r#""kind":"resize","terminal":0,"columns":80,"rows":24,"depth":3"#,
        ),
        line(3, r#""kind":"resize","terminal":0"#),
        line(4, r#""kind":"marker","marker":"x","message":"y""#),
    ];
    let chunk = chunk_of(lines.concat().as_bytes());
    let items: Vec<_> = ChunkReader::new(chunk.as_slice()).unwrap().collect();
    let seqs: Vec<_> = items
        .iter()
        .map(|item| item.as_ref().ok().map(|record| record.seq))
        .collect();
    assert_eq!(seqs, [Some(1), None, Some(2), None, Some(4)]);
    assert!(items[0].as_ref().unwrap().event.is_none());
    assert!(
        matches!(&items[2].as_ref().unwrap().event, Some(event) if event.body == resize(80, 24))
    );
    let error = items[3].as_ref().unwrap_err().to_string();
    assert!(
        error.contains("line 5") && error.contains("columns"),
        "{error}"
    );
}

#[test]
fn bounds_hold_against_hostile_chunks() {
    let bomb = chunk_of(&vec![b' '; 400 << 20]);
    assert!(bomb.len() < 1 << 20);
    assert!(matches!(read(&bomb).1, Some(ChunkError::TooLarge)));

    let mut long = vec![b' '; MAX_LINE_BYTES + 200_000];
    long.extend(b"\n{\"seq\":1,\"time\":\"2026-11-21T10:00:00Z\",\"boot_ns\":1,\"kind\":\"x\"}\n");
    let chunk = chunk_of(&long);
    let items: Vec<_> = ChunkReader::new(chunk.as_slice()).unwrap().collect();
    assert!(
        matches!(items[0], Err(ChunkError::LongLine { line: 2 })),
        "{:?}",
        items[0]
    );
    assert_eq!(items[1].as_ref().unwrap().seq, 1);

    let items: Vec<_> = ChunkReader::new(chunk_of(&[b'\n'; 5000]).as_slice())
        .unwrap()
        .collect();
    assert_eq!(items.len(), 101);
    assert!(matches!(items[100], Err(ChunkError::BadLines)));
}

#[test]
fn what_is_no_chunk_of_this_format_is_refused_by_name() {
    let refuse = |plain: &[u8]| {
        read(&zstd::encode_all(plain, 1).unwrap())
            .1
            .unwrap()
            .to_string()
    };
    let error = refuse(b"{\"kind\":\"header\",\"format\":\"auditty.recording/9\"}\n");
    assert!(error.contains("auditty.recording/9"), "{error}");
    let error = refuse(b"{\"kind\":\"output\",\"format\":\"auditty.recording/1\"}\n");
    assert!(error.contains("kind is `output`"), "{error}");
    let error = refuse(b"hello");
    assert!(error.contains("has no end"), "{error}");
}

#[test]
fn a_torn_chunk_is_taken_over_and_goes_on() {
    let key = new_session_key();
    let all: Vec<Event> = (5..60)
        .map(|seq| event(seq, output(&noise(300, seq))))
        .collect();
    let (_, bytes) = seal(header(&key, 2, Digest::of(b"p"), 5), &all);
    let torn = &bytes[..bytes.len() - 1];
    let recovered = ChunkWriter::recover(torn, Vec::new(), None).unwrap();
    assert!(matches!(
        recovered.damage,
        Some(ChunkError::Truncated { .. })
    ));
    let mut writer = recovered.writer;
    let last = writer.last_seq().unwrap();
    writer.append(&event(last + 1, gap())).unwrap();
    let (sealed, bytes) = writer.finish().unwrap();
    assert_eq!((sealed.first_seq, sealed.last_seq), (5, last + 1));
    assert_eq!(sealed.header, header(&key, 2, Digest::of(b"p"), 5));
    let (records, error) = read(&bytes);
    assert!(error.is_none());
    assert_eq!(
        events(&records)[..records.len() - 1],
        all[..(last - 4) as usize]
    );
}

#[test]
fn a_writer_refuses_a_hole_and_goes_on() {
    let mut writer =
        ChunkWriter::new(Vec::new(), header(&new_session_key(), 0, Digest::ZERO, 1)).unwrap();
    writer.append(&event(1, output(b"a"))).unwrap();
    let refused = writer.append(&event(3, output(b"c")));
    assert!(matches!(
        refused,
        Err(ChunkError::Sequence {
            expected: 2,
            found: 3
        })
    ));
    writer.append(&event(2, output(b"b"))).unwrap();
    assert_eq!(writer.finish().unwrap().0.last_seq, 2);
    let empty = ChunkWriter::new(Vec::new(), header(&new_session_key(), 0, Digest::ZERO, 1));
    assert!(matches!(empty.unwrap().finish(), Err(ChunkError::NoEvents)));
}

#[test]
fn a_full_disk_breaks_the_chunk_and_what_was_flushed_is_good() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut writer =
        ChunkWriter::new(full, header(&new_session_key(), 0, Digest::ZERO, 1)).unwrap();
    let appended = writer.append(&event(1, output(b"a")));
    assert!(appended.is_ok(), "the encoder holds it");
    assert!(matches!(writer.flush(), Err(ChunkError::Io(_))));
    assert!(matches!(
        writer.append(&event(2, output(b"b"))),
        Err(ChunkError::Broken)
    ));
}

/// `zstd -dc | jq`, fed with `bytes`.
fn stock(bytes: &[u8], program: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("000000.jsonl.zst"), bytes).unwrap();
    let script = format!("set -o pipefail; zstd -dc *.jsonl.zst | {program}");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(dir.path())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn stock_zstd_and_jq_read_a_chunk_and_give_the_exact_bytes() {
    let (_, bytes) = seal(
        header(&new_session_key(), 0, Digest::ZERO, 1),
        &one_of_each(),
    );
    let kinds = stock(&bytes, "jq -r .kind");
    let written: Vec<_> = one_of_each()
        .iter()
        .map(|event| event.body.kind())
        .collect();
    assert_eq!(kinds.lines().collect::<Vec<_>>()[1..], written);
    let recipe = r#"jq -r 'select(.kind == "output" and .terminal == 0) | .base64 // (.text // "" | @base64)' \
        | while read -r line; do printf %s "$line" | base64 -d; done | sha256sum"#;
    let exact: Vec<u8> = one_of_each()
        .iter()
        .filter_map(|event| match &event.body {
            Body::Output(output) => Some(output.data.0.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(
        stock(&bytes, recipe).split(' ').next(),
        Some(&*Digest::of(&exact).to_string())
    );
}

#[test]
fn stock_sha256sum_verifies_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let built = build(&new_session_key(), &one_of_each(), 5);
    for (entry, bytes) in &built.chunks {
        std::fs::write(dir.path().join(entry.key.name.to_string()), bytes).unwrap();
    }
    let json = built.manifest.to_json().unwrap();
    std::fs::write(dir.path().join("manifest.json"), &json).unwrap();
    let sums = built.manifest.sha256sums(&json);
    std::fs::write(dir.path().join("SHA256SUMS"), &sums).unwrap();
    let check = || {
        let mut command = Command::new("sha256sum");
        command.args(["-c", "SHA256SUMS"]).current_dir(dir.path());
        command.stdout(Stdio::null()).status().unwrap().success()
    };
    assert!(check());
    let path = dir.path().join("000001.jsonl.zst");
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    file.write_all(b"x").unwrap();
    assert!(!check());
}

//! Measures how fast a chunk is written: 50 MB of terminal output in events of
//! 4–32 KiB, at the library's level, and what other levels would give.
//!
//! `cargo run --release -p auditty-recording --example chunk_speed`

use std::time::Instant;

use auditty_recording::Bytes;
use auditty_recording::chunk::{ChunkReader, ChunkWriter};
use auditty_recording::event::{Body, Event, Output, Stream};
use auditty_recording::format::{FORMAT, Header};

const TOTAL_BYTES: usize = 50_000_000;

/// Coloured listing lines with changing numbers, as `ls -l` and builds print.
fn terminal_output() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TOTAL_BYTES + 200);
    let mut state = 1_u64;
    while bytes.len() < TOTAL_BYTES {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (size, name) = (state >> 44, state >> 36 & 0xfff);
        let line = format!(
            "-rw-r--r-- 1 root root {size:>8} Nov 21 12:{:02} \u{1b}[01;32mfile-{name:x}.rs\u{1b}[0m\r\n",
            state >> 58
        );
        bytes.extend_from_slice(line.as_bytes());
    }
    bytes
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = terminal_output();
    for size in [4096, 32768] {
        let events: Vec<Event> = (1..)
            .zip(bytes.chunks(size))
            .map(|(seq, piece)| Event {
                seq,
                time: jiff::Timestamp::now(),
                boot_ns: seq,
                body: Body::Output(Output {
                    stream: Stream::Terminal,
                    terminal: Some(0),
                    offset: seq * size as u64,
                    data: Bytes(piece.to_vec()),
                    omitted_bytes: None,
                }),
            })
            .collect();
        let header = Header {
            format: FORMAT.to_owned(),
            first_seq: 1,
            ..Header::default()
        };
        let begin = Instant::now();
        let mut writer = ChunkWriter::new(Vec::new(), header)?;
        for event in &events {
            writer.append(event)?;
        }
        let (sealed, chunk) = writer.finish()?;
        let written = begin.elapsed();
        let begin = Instant::now();
        let count = ChunkReader::new(chunk.as_slice())?
            .filter(Result::is_ok)
            .count();
        let read = begin.elapsed();
        assert_eq!(count, events.len());
        let speed = |time: std::time::Duration| bytes.len() as f64 / 1e6 / time.as_secs_f64();
        println!(
            "events of {size} bytes: write {:.0} MB/s, read {:.0} MB/s, stored {:.1} %",
            speed(written),
            speed(read),
            sealed.bytes as f64 * 100.0 / bytes.len() as f64
        );
        let plain = zstd::decode_all(chunk.as_slice())?;
        for level in [-1, 1, 2, 3] {
            let begin = Instant::now();
            let stored = zstd::encode_all(plain.as_slice(), level)?.len();
            println!(
                "  zstd level {level} alone: {:.0} MB/s, {:.1} %",
                speed(begin.elapsed()),
                stored as f64 * 100.0 / bytes.len() as f64
            );
        }
    }
    Ok(())
}

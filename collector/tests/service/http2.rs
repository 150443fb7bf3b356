//! What one connection may take, tried frame by frame: no client of ours would do
//! what these do.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::time::Duration;

use auditty_proto::v1;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::common::*;

/// Requests in work, and streams, of one connection.
const REQUESTS: u32 = 16;
const STREAMS: u32 = 64;
/// Longest wait for what should be there soon.
const DEADLINE: Duration = Duration::from_secs(20);

/// Types of frames, and the flags and codes that are used here (RFC 9113).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame that came.
#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// Why something ends. The end of a connection says first which stream was
    /// the last.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

struct Http2 {
    tcp: TcpStream,
}

impl Http2 {
    async fn connect(collector: &Collector) -> Self {
        let address = collector.address.to_string();
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        tcp.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self { tcp }
    }

    async fn send(&mut self, frames: &[Vec<u8>]) {
        self.tcp.write_all(&frames.concat()).await.unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.tcp.read_exact(&mut head).await.ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; len as usize];
        self.tcp.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            stream: u32::from_be_bytes(head[5..9].try_into().unwrap()),
            payload,
        })
    }

    /// The next frame that is looked for; `None` at the end of the connection.
    async fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let found = async {
            loop {
                let frame = self.frame().await?;
                if wanted(&frame) {
                    return Some(frame);
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.unwrap()
    }

    /// Everything that was sent before was read.
    async fn ping(&mut self) -> Vec<Frame> {
        self.send(&[frame(PING, 0, 0, &[7; 8])]).await;
        let mut before = Vec::new();
        loop {
            let frame = self.find(|_| true).await.unwrap();
            if frame.kind == PING && frame.payload == [7; 8] {
                return before;
            }
            before.push(frame);
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The beginning of a request that anybody may make. It is in work until its
/// message is there.
fn begin(stream: u32) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // A literal without indexing (RFC 7541, 6.2.2).
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// An empty message, which ends a request.
fn end(stream: u32) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, &[0; 5])
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// The number of a client's stream, from 0.
fn number(of: u32) -> u32 {
    2 * of + 1
}

#[tokio::test]
async fn streams_of_one_connection_are_bounded() {
    let database = Database::sqlite();
    let collector = database.collector().await;
    let mut http2 = Http2::connect(&collector).await;
    let settings = http2.find(|frame| frame.kind == SETTINGS).await.unwrap();
    let allowed = settings.payload.chunks_exact(6).find_map(|setting| {
        let (id, value) = setting.split_at(2);
        (id == MAX_CONCURRENT_STREAMS.to_be_bytes()).then(|| value.to_vec())
    });
    assert_eq!(allowed, Some(STREAMS.to_be_bytes().to_vec()));
    // Whoever does not care is refused.
    let streams: Vec<_> = (0..=STREAMS).map(|of| begin(number(of))).collect();
    http2.send(&streams).await;
    let refused = http2.find(|frame| frame.kind == RST_STREAM).await.unwrap();
    assert_eq!(refused.stream, number(STREAMS));
    assert_eq!(refused.code(), REFUSED_STREAM);
    // Others are served all the while.
    let mut other = collector.query().await;
    let listed = other.list_sessions(v1::ListSessionsRequest::default());
    listed.await.unwrap();
    drop(http2);
    collector.stop().await;
}

#[tokio::test]
async fn requests_in_work_of_one_connection_are_bounded() {
    let database = Database::sqlite();
    let collector = database.collector().await;
    let mut http2 = Http2::connect(&collector).await;
    let last = number(REQUESTS);
    let mut frames: Vec<_> = (0..=REQUESTS).map(|of| begin(number(of))).collect();
    frames.push(end(last));
    http2.send(&frames).await;
    let answered = |frame: &Frame| frame.kind == HEADERS && frame.stream == last;
    // Many times what an answer takes.
    for _ in 0..20 {
        let before = http2.ping().await;
        assert!(!before.iter().any(answered), "one more than may be in work");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    http2.send(&[end(number(0))]).await;
    http2.find(answered).await.unwrap();
    drop(http2);
    collector.stop().await;
}

#[tokio::test]
async fn streams_that_are_begun_and_reset_end_their_connection() {
    let database = Database::sqlite();
    let collector = database.collector().await;
    let mut http2 = Http2::connect(&collector).await;
    let pairs = |range: std::ops::Range<u32>| -> Vec<Vec<u8>> {
        let streams = range.map(number);
        streams.flat_map(|it| [begin(it), reset(it)]).collect()
    };
    // Somebody who changes their mind now and then.
    http2.send(&pairs(0..10)).await;
    http2.send(&[begin(number(10)), end(number(10))]).await;
    let answered = |frame: &Frame| frame.kind == HEADERS && frame.stream == number(10);
    http2.find(answered).await.unwrap();
    http2.send(&pairs(11..161)).await;
    let ended = http2.find(|frame| frame.kind == GOAWAY).await;
    // The reason may be lost with the connection.
    if let Some(reason) = ended {
        assert_eq!(reason.code(), ENHANCE_YOUR_CALM);
    }
    let mut next = Http2::connect(&collector).await;
    next.send(&[begin(1), end(1)]).await;
    next.find(|frame| frame.kind == HEADERS).await.unwrap();
    drop((http2, next));
    collector.stop().await;
}

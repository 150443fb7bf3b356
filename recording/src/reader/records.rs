//! The events of a recording in order, across its chunks.

use std::collections::VecDeque;

use ::bytes::{Buf, buf::Reader};

use super::{Issue, Recording, State};
use crate::chunk::{ChunkReader, Record};
use crate::digest::Digest;
use crate::key::ObjectKey;
use crate::store::{Body, MAX_OBJECT_BYTES, StoreError};

/// Most missing chunks in a row that are named one by one: a single object with
/// a huge number must not cause millions of lines.
const MAX_SKIPPED: usize = 1000;

/// What reading gives next.
#[derive(Debug)]
pub enum Item {
    /// An event.
    Record(Record),
    /// A problem; events go on behind it.
    Issue(Issue),
}

/// Reads a recording chunk by chunk; at most one chunk is in memory.
pub struct Records<'a> {
    recording: &'a Recording,
    numbers: VecDeque<u32>,
    /// Number of the chunk that has to come next.
    next_number: u32,
    /// The chain head before that chunk; `None` after a missing chunk.
    chain_head: Option<Digest>,
    /// The highest sequence number so far; `None` when reading began in the
    /// middle.
    last_seq: Option<u64>,
    found: VecDeque<Issue>,
    open: Option<(ObjectKey, ChunkReader<Reader<Body>>)>,
}

impl<'a> Records<'a> {
    /// Reads chunks `numbers`, ascending.
    pub(super) fn new(recording: &'a Recording, numbers: Vec<u32>) -> Self {
        let first = numbers.first().copied().unwrap_or(0);
        let listed = recording.manifest.as_ref();
        let whole = first == 0 || listed.is_none();
        Self {
            recording,
            numbers: numbers.into(),
            next_number: if whole { 0 } else { first },
            chain_head: whole.then_some(Digest::ZERO),
            last_seq: whole.then_some(0),
            found: VecDeque::new(),
            open: None,
        }
    }

    /// The next event or problem; `None` at the end. After a store error the
    /// call can be repeated.
    pub async fn next(&mut self) -> Result<Option<Item>, StoreError> {
        loop {
            if let Some(issue) = self.found.pop_front() {
                return Ok(Some(Item::Issue(issue)));
            }
            if let Some((key, reader)) = &mut self.open {
                match reader.next() {
                    Some(Ok(record)) => return Ok(Some(self.in_sequence(record))),
                    Some(Err(error)) => {
                        let key = key.clone();
                        return Ok(Some(Item::Issue(Issue::DamagedChunk { key, error })));
                    }
                    None => self.open = None,
                }
            } else if let Some(&number) = self.numbers.front() {
                self.next_chunk(number).await?;
            } else {
                return Ok(None);
            }
        }
    }

    /// Gives the record out, after the problem that its number shows.
    fn in_sequence(&mut self, record: Record) -> Item {
        let seq = record.seq;
        let key = || self.open.as_ref().map(|(key, _)| key.clone());
        let problem = match (self.last_seq, key()) {
            (Some(previous), Some(key)) if seq <= previous => Some(Issue::RepeatedEvent {
                key,
                previous,
                found: seq,
            }),
            (Some(previous), Some(key)) if seq > previous + 1 => Some(Issue::MissingEvents {
                key,
                first: previous + 1,
                last: seq - 1,
            }),
            _ => None,
        };
        self.last_seq = Some(self.last_seq.unwrap_or(0).max(seq));
        // The problem is told right behind the record that shows it.
        self.found.extend(problem);
        Item::Record(record)
    }

    /// Fetches chunk `number`, checks it against manifest and chain, opens it.
    async fn next_chunk(&mut self, number: u32) -> Result<(), StoreError> {
        let Recording {
            store,
            key: folder,
            manifest,
            state,
            ..
        } = self.recording;
        let key = folder.chunk(number);
        let body = match store.get(&key.to_string(), MAX_OBJECT_BYTES).await {
            Err(error) if error.is_not_found() => None,
            other => Some(other?),
        };
        self.numbers.pop_front();
        self.skipped_until(number);
        self.next_number = number.saturating_add(1);
        let Some(body) = body else {
            self.found.push_back(Issue::MissingChunk { key });
            self.chain_head = None;
            return Ok(());
        };
        let found = Digest::of(&body);
        let chunks = manifest.iter().flat_map(|manifest| &manifest.chunks);
        match chunks.into_iter().find(|chunk| chunk.number == number) {
            Some(chunk) if chunk.sha256 != found => self.found.push_back(Issue::HashMismatch {
                key: key.clone(),
                expected: chunk.sha256,
                found,
            }),
            None if *state == State::Sealed => {
                self.found
                    .push_back(Issue::UnlistedChunk { key: key.clone() });
            }
            _ => {}
        }
        self.open_chunk(key, number, found, body);
        Ok(())
    }

    /// Chunks between the last one and `number` are neither listed nor stored.
    fn skipped_until(&mut self, number: u32) {
        for missing in self.next_number..number {
            self.chain_head = None;
            let key = self.recording.key.chunk(missing);
            self.found.push_back(Issue::MissingChunk { key });
            if self.found.len() >= MAX_SKIPPED {
                break;
            }
        }
    }

    fn open_chunk(&mut self, key: ObjectKey, number: u32, sha256: Digest, body: Body) {
        let reader = match ChunkReader::new(body.reader()) {
            Ok(reader) => reader,
            Err(error) => {
                self.chain_head = self.chain_head.map(|head| head.chain(&sha256, &key));
                self.found.push_back(Issue::DamagedChunk { key, error });
                return;
            }
        };
        let header = reader.header();
        let folder = &self.recording.key;
        for (same, what) in [
            (header.session_id == folder.session_id(), "session"),
            (header.host_id == folder.host_id(), "host"),
            (header.chunk == number, "chunk number"),
        ] {
            if !same {
                let key = key.clone();
                self.found.push_back(Issue::ForeignChunk { key, what });
            }
        }
        let before = header.previous_chain_head;
        if self.chain_head.is_some_and(|head| head != before) {
            self.found
                .push_back(Issue::BrokenChain { key: key.clone() });
        }
        self.chain_head = Some(before.chain(&sha256, &key));
        self.open = Some((key, reader));
    }
}

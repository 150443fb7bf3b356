//! The events of a recording in order, across its chunks.

use std::collections::VecDeque;

use super::input::InputChunk;
use super::{Issue, Recording, State};
use crate::chunk::{AnyChunk, ChunkError, Record};
use crate::digest::Digest;
use crate::key::{Form, ObjectKey, ObjectName};
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

/// How far a recording was read, to go on there; by default its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    next_number: u32,
    chain_head: Option<Digest>,
    last_seq: Option<u64>,
}

impl Default for Position {
    fn default() -> Self {
        Self {
            next_number: 0,
            chain_head: Some(Digest::ZERO),
            last_seq: Some(0),
        }
    }
}

impl Position {
    /// Number of the chunk that has to come next.
    pub(super) fn next_number(self) -> u32 {
        self.next_number
    }
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
    open: Option<(ObjectKey, AnyChunk)>,
    /// What was typed in the time of the open chunk, where that stands elsewhere
    /// and can be read.
    input: Option<InputChunk>,
}

impl<'a> Records<'a> {
    /// Reads chunks `numbers`, ascending.
    pub(super) fn new(recording: &'a Recording, numbers: Vec<u32>) -> Self {
        let first = numbers.first().copied().unwrap_or(0);
        let listed = recording.manifest.as_ref();
        let position = match first == 0 || listed.is_none() {
            true => Position::default(),
            false => Position {
                next_number: first,
                chain_head: None,
                last_seq: None,
            },
        };
        Self::behind(recording, numbers, position)
    }

    /// Reads chunks `numbers`, ascending, which follow a position.
    pub(super) fn behind(recording: &'a Recording, numbers: Vec<u32>, position: Position) -> Self {
        Self {
            recording,
            numbers: numbers.into(),
            next_number: position.next_number,
            chain_head: position.chain_head,
            last_seq: position.last_seq,
            found: VecDeque::new(),
            open: None,
            input: None,
        }
    }

    /// How far it was read, when [`Records::next`] has come to the end.
    pub fn position(&self) -> Position {
        Position {
            next_number: self.next_number,
            chain_head: self.chain_head,
            last_seq: self.last_seq,
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
                    Some(Ok(mut record)) => {
                        if let Some(input) = &mut self.input {
                            self.found.extend(input.complete(&mut record));
                        }
                        return Ok(Some(self.in_sequence(record)));
                    }
                    Some(Err(error)) => {
                        let key = key.clone();
                        return Ok(Some(Item::Issue(Issue::DamagedChunk { key, error })));
                    }
                    None => self.open = None,
                }
            } else if let Some(&number) = self.numbers.front() {
                self.input = None;
                self.next_chunk(number).await?;
                self.next_input().await?;
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
        let key = self.recording.chunk(number);
        let body = self.fetch(&key).await?;
        self.numbers.pop_front();
        self.skipped_until(number);
        self.next_number = number.saturating_add(1);
        let Some(body) = body else {
            self.found.push_back(Issue::MissingChunk { key });
            self.chain_head = None;
            return Ok(());
        };
        let sha256 = self.compare(number, &key, &body);
        self.open_chunk(key, number, sha256, body);
        Ok(())
    }

    /// The same for the input chunk behind it, where there is one.
    async fn next_input(&mut self) -> Result<(), StoreError> {
        let number = self.next_number;
        if self.numbers.front() != Some(&number)
            || form(&self.recording.chunk(number)) != Form::EncryptedInput
        {
            return Ok(());
        }
        let key = self.recording.chunk(number);
        let body = self.fetch(&key).await?;
        self.numbers.pop_front();
        self.next_number = number.saturating_add(1);
        let Some(body) = body else {
            self.found.push_back(Issue::MissingChunk { key });
            self.chain_head = None;
            return Ok(());
        };
        let sha256 = self.compare(number, &key, &body);
        self.chain_head = self.chain_head.map(|head| head.chain(&sha256, &key));
        match AnyChunk::open(Form::EncryptedInput, body, &self.recording.identities) {
            Ok(reader) => self.input = Some(InputChunk::new(key, reader)),
            // Who may read the rest need not be who may read this.
            Err(ChunkError::Locked) => {}
            Err(error) => self.found.push_back(Issue::DamagedChunk { key, error }),
        }
        Ok(())
    }

    /// A chunk's content; `None` when it is not there.
    async fn fetch(&self, key: &ObjectKey) -> Result<Option<Body>, StoreError> {
        match self
            .recording
            .store
            .get(&key.to_string(), MAX_OBJECT_BYTES)
            .await
        {
            Err(error) if error.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Compares a chunk with the manifest; its digest.
    fn compare(&mut self, number: u32, key: &ObjectKey, body: &Body) -> Digest {
        let found = Digest::of(body);
        let manifest = self.recording.manifest.as_ref();
        match manifest.and_then(|manifest| manifest.chunks.get(number as usize)) {
            Some(chunk) if chunk.sha256 != found => self.found.push_back(Issue::HashMismatch {
                key: key.clone(),
                expected: chunk.sha256,
                found,
            }),
            None if self.recording.state == State::Sealed => {
                self.found
                    .push_back(Issue::UnlistedChunk { key: key.clone() });
            }
            _ => {}
        }
        found
    }

    /// Chunks between the last one and `number` are neither listed nor stored.
    fn skipped_until(&mut self, number: u32) {
        for missing in self.next_number..number {
            self.chain_head = None;
            let key = self.recording.chunk(missing);
            self.found.push_back(Issue::MissingChunk { key });
            if self.found.len() >= MAX_SKIPPED {
                break;
            }
        }
    }

    fn open_chunk(&mut self, key: ObjectKey, number: u32, sha256: Digest, body: Body) {
        let reader = match AnyChunk::open(form(&key), body, &self.recording.identities) {
            Ok(reader) => reader,
            Err(error) => {
                self.chain_head = self.chain_head.map(|head| head.chain(&sha256, &key));
                self.found.push_back(match error {
                    // What was typed, behind a chunk that is missing.
                    ChunkError::Locked if form(&key) == Form::EncryptedInput => return,
                    ChunkError::Locked => Issue::Locked { key },
                    error => Issue::DamagedChunk { key, error },
                });
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
        // Its events would come again.
        if form(&key) != Form::EncryptedInput {
            self.open = Some((key, reader));
        }
    }
}

fn form(key: &ObjectKey) -> Form {
    match key.name {
        ObjectName::Chunk(_, form) => form,
        _ => Form::Clear,
    }
}

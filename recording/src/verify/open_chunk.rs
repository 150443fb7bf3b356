//! Chunks that no good manifest lists: read to their end.

use super::{FindingKind, Notes};
use crate::chunk::{AnyChunk, ChunkError};
use crate::digest::Digest;
use crate::encryption::Identities;
use crate::key::{Form, ObjectKey, ObjectName};
use crate::store::Body;

/// What has to come before a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// The chain head; unknown behind a missing chunk.
    pub(super) chain_head: Option<Digest>,
    /// The sequence number of the last event; likewise.
    pub(super) last_seq: Option<u64>,
}

/// What a chunk turned out to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub(super) encrypted: bool,
    /// Its content was read.
    pub(super) opened: bool,
    /// The sequence number of the last event so far; `None` when that is not
    /// known.
    pub(super) last_seq: Option<u64>,
}

/// Notes what is wrong with a chunk.
pub(super) fn check(
    key: &ObjectKey,
    body: Body,
    before: Before,
    identities: &Identities,
    notes: &mut Notes,
) -> Found {
    let form = match key.name {
        ObjectName::Chunk(_, form) => form,
        _ => Form::Clear,
    };
    let mut found = Found {
        encrypted: form.is_encrypted(),
        ..Found::default()
    };
    let reader = match AnyChunk::open(form, body, identities) {
        Ok(reader) => reader,
        Err(ChunkError::Locked) => return found,
        Err(error) => {
            damaged(key, &error, notes);
            return found;
        }
    };
    found.opened = true;
    found.last_seq = match form {
        // Its events stand in the chunk before.
        Form::EncryptedInput => before.last_seq,
        Form::Clear | Form::Encrypted => read(key, reader, before, notes),
    };
    found
}

fn read(key: &ObjectKey, reader: AnyChunk, before: Before, notes: &mut Notes) -> Option<u64> {
    let header = reader.header();
    let own = matches!(key.name, ObjectName::Chunk(number, _) if number == header.chunk)
        && header.session_id == key.session.session_id()
        && header.host_id == key.session.host_id();
    if !own {
        let detail = format!(
            "it is chunk {} of session {} on host {}",
            header.chunk, header.session_id, header.host_id
        );
        notes.find(FindingKind::Reordered, key, detail);
        return None;
    }
    let follows = before
        .chain_head
        .is_none_or(|head| head == header.previous_chain_head);
    if !follows {
        let detail = "it does not follow the chunk before it";
        notes.find(FindingKind::BrokenChain, key, detail);
    }
    let mut last = before.last_seq;
    for record in reader {
        let seq = match record {
            Ok(record) => record.seq,
            Err(error) => {
                damaged(key, &error, notes);
                return None;
            }
        };
        if last.is_some_and(|last| seq != last.saturating_add(1)) {
            let detail = format!("event {seq} does not follow event {}", last.unwrap_or(0));
            notes.find(FindingKind::BrokenChain, key, detail);
        }
        last = Some(seq);
    }
    last
}

pub(super) fn damaged(key: &ObjectKey, error: &ChunkError, notes: &mut Notes) {
    let kind = match error {
        ChunkError::Truncated { .. } | ChunkError::UnfinishedLine { .. } | ChunkError::Empty => {
            FindingKind::Truncated
        }
        _ => FindingKind::Malformed,
    };
    notes.find(kind, key, error);
}

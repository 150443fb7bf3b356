//! What was typed, from the chunk behind the one that leaves it out.

use super::Issue;
use crate::chunk::{AnyChunk, ChunkError, Record};
use crate::event::Body;
use crate::key::ObjectKey;

/// An open input chunk.
pub(super) struct InputChunk {
    key: ObjectKey,
    reader: Option<AnyChunk>,
    /// Read, and not yet asked for.
    next: Option<Record>,
}

impl InputChunk {
    pub(super) fn new(key: ObjectKey, reader: AnyChunk) -> Self {
        Self {
            key,
            reader: Some(reader),
            next: None,
        }
    }

    /// Replaces an input event without its bytes by the one with them. The
    /// problem, where it is not there.
    pub(super) fn complete(&mut self, record: &mut Record) -> Option<Issue> {
        let event = record.event.as_ref().map(|event| &event.body);
        if !matches!(event, Some(Body::Input(input)) if input.encrypted_bytes.is_some()) {
            return None;
        }
        let seq = record.seq;
        while let Some(found) = self
            .next
            .take()
            .map(Ok)
            .or_else(|| self.reader.as_mut()?.next())
        {
            match found {
                Ok(found) if found.seq < seq => {}
                Ok(found) if found.seq == seq => {
                    *record = found;
                    return None;
                }
                Ok(later) => {
                    self.next = Some(later);
                    break;
                }
                Err(error) => return self.give_up(error),
            }
        }
        self.reader.is_some().then(|| Issue::MissingEvents {
            key: self.key.clone(),
            first: seq,
            last: seq,
        })
    }

    fn give_up(&mut self, error: ChunkError) -> Option<Issue> {
        self.reader = None;
        let key = self.key.clone();
        Some(Issue::DamagedChunk { key, error })
    }
}

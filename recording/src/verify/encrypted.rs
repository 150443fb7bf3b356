//! What a listed chunk holds, for who has a private key: is it what the manifest
//! says? A host that signs one thing and encrypts another is found out here.

use super::open_chunk::damaged;
use super::{FindingKind, Notes};
use crate::chunk::{AnyChunk, ChunkError};
use crate::digest::Digest;
use crate::encryption::Identities;
use crate::event::Body as Fact;
use crate::key::Form;
use crate::manifest::ChunkEntry;
use crate::session::Counts;
use crate::store::Body;

/// Notes what is wrong with the content of a chunk, and adds its events to
/// `counts`; whether a key opened it.
pub(super) fn check(
    entry: &ChunkEntry,
    body: Body,
    chain_head: Option<Digest>,
    identities: &Identities,
    mut counts: Option<&mut Counts>,
    notes: &mut Notes,
) -> bool {
    let reader = match AnyChunk::open(entry.form(), body, identities) {
        Ok(reader) => reader,
        Err(ChunkError::Locked) => return false,
        Err(error) => {
            damaged(&entry.key, &error, notes);
            return true;
        }
    };
    let input = entry.form() == Form::EncryptedInput;
    let header = reader.header();
    let session = &entry.key.session;
    let own = header.chunk == entry.number
        && header.session_id == session.session_id()
        && header.host_id == session.host_id()
        && header.input == input;
    if !own {
        let detail = format!(
            "its content is chunk {} of session {} on host {}",
            header.chunk, header.session_id, header.host_id
        );
        notes.find(FindingKind::Reordered, &entry.key, detail);
    }
    if chain_head.is_some_and(|head| head != header.previous_chain_head) {
        let detail = "its content does not follow the chunk before it";
        notes.find(FindingKind::BrokenChain, &entry.key, detail);
    }
    let mut bytes = serde_json::to_vec(header).map_or(0, |line| line.len() as u64 + 1);
    let (mut first, mut last, mut in_order) = (None, None, true);
    for record in reader {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                damaged(&entry.key, &error, notes);
                return true;
            }
        };
        let follows = match (last, input) {
            (None, _) => true,
            (Some(last), true) => record.seq > last,
            (Some(last), false) => record.seq == last + 1,
        };
        in_order &= follows;
        first = first.or(Some(record.seq));
        last = Some(record.seq);
        bytes += record.line.len() as u64 + 1;
        match (record.event, &mut counts) {
            (Some(event), _) if input => in_order &= matches!(event.body, Fact::Input(_)),
            (Some(event), Some(counts)) => counts.add(&event.body),
            (None, Some(counts)) => counts.events += 1,
            (_, None) => {}
        }
    }
    let listed = (Some(entry.first_seq), Some(entry.last_seq));
    // A host whose disk had lost it did not know the size any more, nor exactly
    // where the input begins and ends.
    let known = entry.uncompressed_bytes > 0;
    let fits = (first, last) == listed || (!known && input);
    if !fits || !in_order || (known && bytes != entry.uncompressed_bytes) {
        let detail = format!(
            "it holds events {} to {} in {bytes} bytes; the manifest says {} to {} in {}",
            first.unwrap_or(0),
            last.unwrap_or(0),
            entry.first_seq,
            entry.last_seq,
            entry.uncompressed_bytes
        );
        notes.find(FindingKind::Malformed, &entry.key, detail);
    }
    true
}

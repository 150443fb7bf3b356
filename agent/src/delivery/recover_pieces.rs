//! Takes over encrypted chunks of an agent that died. None of them is read: what
//! has to be known of them stands beside them.

use std::fs;
use std::path::Path;

use auditty_proto::v1::Report;
use auditty_recording::encryption::{EncryptedTo, Recipients};
use auditty_recording::key::{Form, ObjectName};
use auditty_recording::manifest::ChunkEntry;
use jiff::Timestamp;

use super::files::{SpoolError, delete, names, rename, unfinished, write_synced};
use super::folder::{Folder, Seal, digest};
use super::pieces::{self, WholePiece};
use super::quarantine::Quarantine;
use super::session::SpooledSession;

/// Finishes what [`super::encrypted_chunk::EncryptedSealing::place`] began, or
/// undoes it.
pub(super) fn finish_sealing(folder: &Folder) -> Result<(), SpoolError> {
    for name in names(folder.path())? {
        let prepared = folder.path().join(&name);
        let Some(object) = name.strip_suffix(".new").and_then(|name| name.parse().ok()) else {
            continue;
        };
        let ObjectName::Chunk(number, form) = object else {
            continue;
        };
        // The seal of the chunk itself comes after that of its input.
        let decides = match form {
            Form::EncryptedInput => number.saturating_sub(1),
            Form::Clear | Form::Encrypted => number,
        };
        match folder.seal(decides).exists() && folder.seal(number).exists() {
            // A damaged one is found before it is stored, and declared.
            true => rename(&prepared, &folder.object(object))?,
            false => {
                delete(&prepared)?;
                if !folder.seal(decides).exists() {
                    delete(&folder.seal(number))?;
                }
            }
        }
    }
    Ok(())
}

/// Seals the pieces of an open chunk, without those from the event `until` on.
/// What the collector may not have been told of them.
pub(super) fn seal_pieces(
    session: &mut SpooledSession,
    until: Option<u64>,
    quarantine: &Quarantine,
) -> Result<Vec<Report>, SpoolError> {
    let (folder, id) = (session.folder.clone(), session.key.session_id());
    let (pieces, mut damage) = pieces::read(&folder.pieces())?;
    let mut reports = Vec::new();
    for whole in &pieces {
        let Some((first, last)) = whole.piece.seqs() else {
            continue;
        };
        if until.is_some_and(|until| first >= until) {
            // Its events are still in the kernel's rings.
            break;
        }
        if last < next_seq(&folder)? && !is_next(whole, session) {
            // Its chunk was sealed as a whole.
            continue;
        }
        match seal_piece(whole, session, &folder)? {
            true => reports.extend(whole.piece.reports()),
            false => {
                damage = Some("a piece does not follow what is before it".to_owned());
                break;
            }
        }
    }
    if let Some(damage) = damage {
        tracing::error!(session = %id, damage, "the open chunk of a session is damaged: its pieces before that are kept, the file goes to quarantine");
        quarantine.take(&folder.pieces(), &format!("{id}-open.pieces"))?;
    }
    delete(&folder.pieces())?;
    Ok(reports)
}

/// Whether one of its chunks is the one that has to come next: a takeover before
/// this one ended between two.
fn is_next(whole: &WholePiece, session: &SpooledSession) -> bool {
    let mut seals = whole.piece.seals.iter();
    seals.any(|seal| seal.entry.number == session.next_chunk() && follows(seal, session))
}

fn follows(seal: &Seal, session: &SpooledSession) -> bool {
    let entry = &seal.entry;
    session.chain_head().chain(&entry.sha256, &entry.key) == entry.chain_head
}

fn seal_piece(
    whole: &WholePiece,
    session: &mut SpooledSession,
    folder: &Folder,
) -> Result<bool, SpoolError> {
    for (seal, chunk) in whole.piece.seals.iter().zip(&whole.chunks) {
        if seal.entry.number < session.next_chunk() {
            continue;
        }
        if seal.entry.number != session.next_chunk() || !follows(seal, session) {
            return Ok(false);
        }
        let object = folder.object(seal.entry.key.name);
        let prepared = unfinished(&object);
        write_synced(&prepared, chunk)?;
        folder.write_seal(seal)?;
        rename(&prepared, &object)?;
        session.follow(seal);
    }
    let record = &mut session.kept.record;
    let behind = whole
        .piece
        .seqs()
        .map_or(0, |(_, last)| last.saturating_add(1));
    if behind >= record.next_seq {
        let known = whole.piece.record.clone();
        record.session = known.session;
        record.streams = known.streams;
        record.revision = record.revision.max(known.revision);
        record.last_boot_ns = record.last_boot_ns.max(known.last_boot_ns);
        record.next_seq = behind;
    }
    Ok(true)
}

/// Sequence number behind the sealed chunks.
pub(super) fn next_seq(folder: &Folder) -> Result<u64, SpoolError> {
    let seals = folder.seals()?;
    let last = seals.iter().map(|seal| seal.entry.last_seq).max();
    Ok(last.map_or(1, |last| last.saturating_add(1)))
}

/// The seal of an encrypted chunk that has none, or a damaged one, from what is
/// around it. Its size before encryption is not known then (0), and its times
/// are those of its file.
pub(super) fn reseal(
    session: &SpooledSession,
    number: u32,
    form: Form,
    recipients: Option<&Recipients>,
) -> Result<Seal, SpoolError> {
    let folder = &session.folder;
    let name = ObjectName::Chunk(number, form);
    let path = folder.object(name);
    let (sha256, bytes) = digest(&path)?;
    let before = number.checked_sub(1);
    let before = before.and_then(|number| folder.read_seal(number).ok());
    let (first_seq, last_seq) = match (form, &before) {
        (Form::EncryptedInput, Some(seal)) => (seal.entry.first_seq, seal.entry.last_seq),
        _ => (next_before(folder, number), last_before(session, number)?),
    };
    if last_seq < first_seq {
        return Err(SpoolError::malformed(&path, "it holds no event"));
    }
    let time = written(&path)?;
    let key = session.key.object(name);
    Ok(Seal {
        entry: ChunkEntry {
            chain_head: session.chain_head().chain(&sha256, &key),
            key,
            number,
            sha256,
            bytes,
            uncompressed_bytes: 0,
            first_seq,
            last_seq,
            first_time: time,
            last_time: time,
        },
        gaps: Vec::new(),
        total_bytes: session.total_bytes() + bytes,
        encrypted_to: before.and_then(|seal| seal.encrypted_to).or_else(|| {
            // The first one: most likely to whom it still is.
            let (recipients, input_recipients) = recipients?.texts();
            Some(EncryptedTo {
                from_chunk: number,
                recipients,
                input_recipients,
            })
        }),
    })
}

/// Behind the chunks before this one.
fn next_before(folder: &Folder, number: u32) -> u64 {
    let before = (0..number).rev().take(2);
    let seals = before.filter_map(|number| folder.read_seal(number).ok());
    let last = seals.map(|seal| seal.entry.last_seq).max();
    last.map_or(1, |last| last.saturating_add(1))
}

/// Before the chunk behind this one, or the open one.
fn last_before(session: &SpooledSession, number: u32) -> Result<u64, SpoolError> {
    let folder = &session.folder;
    let behind = folder.seal_numbers()?.into_iter();
    let mut behind = behind
        .filter(|other| *other > number)
        .filter_map(|number| folder.read_seal(number).ok())
        .filter(|seal| seal.entry.form() != Form::EncryptedInput);
    let next = behind.next().map(|seal| seal.entry.first_seq);
    let next = match next {
        Some(next) => next,
        None => {
            let (pieces, _) = pieces::read(&folder.pieces())?;
            let open = pieces.first().and_then(|whole| whole.piece.seqs());
            open.map_or(session.kept.record.next_seq, |(first, _)| first)
        }
    };
    Ok(next.saturating_sub(1))
}

fn written(path: &Path) -> Result<Timestamp, SpoolError> {
    let failed = |error| SpoolError::new("look at", path, error);
    let time = fs::metadata(path).and_then(|file| file.modified());
    Timestamp::try_from(time.map_err(failed)?).map_err(|error| SpoolError::malformed(path, error))
}

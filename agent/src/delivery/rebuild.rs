//! A session whose `record.json` is damaged, from what else its folder holds.

use std::fs::File;
use std::path::Path;

use auditty_recording::chunk::ChunkReader;
use auditty_recording::event::Body;
use auditty_recording::format::Header;
use auditty_recording::key::{Form, ObjectName, SessionKey};
use auditty_recording::session::{Host, Session};
use uuid::Uuid;

use super::files::SpoolError;
use super::folder::{Folder, KeptSession};
use super::pieces;
use super::replay::replay;
use crate::sessions::sink::SessionRecord;

/// Reports to the collector, which takes news only: more than there ever were.
const NEWS: u64 = 1 << 32;

/// The session as its seals and chunks show it; `None` when they show nothing.
/// Facts of chunks that have left the host are not known any more.
pub(super) fn rebuild(folder: &Folder, id: Uuid) -> Result<Option<KeptSession>, SpoolError> {
    // What an encrypted chunk holds is not known here; its last piece tells.
    let (pieces, _) = pieces::read(&folder.pieces())?;
    if let Some(last) = pieces.last().map(|whole| &whole.piece)
        && let Some(seal) = last.seals.first()
    {
        return Ok(Some(KeptSession {
            key: seal.entry.key.session.to_string(),
            record: last.record.clone(),
            finished: false,
            checkpoint: 0,
            reports: NEWS,
        }));
    }
    let mut chunks = folder.objects()?;
    chunks.retain(|name| matches!(name, ObjectName::Chunk(_, Form::Clear)));
    let mut files: Vec<_> = chunks.into_iter().map(|name| folder.object(name)).collect();
    files.extend([folder.torn_chunk(), folder.open_chunk()]);
    let headers = files.iter().filter_map(|file| header(file));
    let first = headers.min_by_key(|header| header.chunk);
    let mut seals = folder.seal_numbers()?.into_iter();
    let seal = seals.find_map(|number| folder.read_seal(number).ok());
    let (host_id, boot_id, start_time, next_seq) = match (&first, &seal) {
        (Some(first), _) => (
            first.host_id.as_str(),
            &*first.boot_id,
            first.created_at,
            first.first_seq,
        ),
        (None, Some(seal)) => (
            seal.entry.key.session.host_id(),
            "",
            seal.entry.first_time,
            1,
        ),
        (None, None) => return Ok(None),
    };
    // Where the recording is stored was decided with its first event.
    let key = match &seal {
        Some(seal) => seal.entry.key.session.clone(),
        None => SessionKey::new(host_id, id, start_time)
            .map_err(|error| SpoolError::malformed(folder.path(), error))?,
    };
    let mut record = SessionRecord {
        session: Session {
            session_id: id,
            host: Host {
                host_id: host_id.to_owned(),
                boot_id: boot_id.to_owned(),
                ..Host::default()
            },
            start_time,
            ..Session::default()
        },
        next_seq,
        ..SessionRecord::default()
    };
    for file in files {
        count(&mut record, &file);
    }
    Ok(Some(KeptSession {
        key: key.to_string(),
        record,
        finished: false,
        checkpoint: 0,
        reports: NEWS,
    }))
}

fn header(path: &Path) -> Option<Header> {
    Some(
        ChunkReader::new(File::open(path).ok()?)
            .ok()?
            .header()
            .clone(),
    )
}

/// Counts the events of a chunk, as far as it can be read.
fn count(record: &mut SessionRecord, path: &Path) {
    let reader = File::open(path).ok();
    let reader = reader.and_then(|file| ChunkReader::new(file).ok());
    for line in reader.into_iter().flatten().map_while(Result::ok) {
        let Some(event) = line.event else { continue };
        if let Body::SessionStart(start) = &event.body {
            record.session.host = start.host.clone();
            record.session.connection = start.connection.clone();
            record.session.session_kind = start.session_kind;
            record.session.adopted = start.adopted;
        }
        replay(record, &event);
    }
}

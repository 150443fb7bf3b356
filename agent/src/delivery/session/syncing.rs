//! Makes a session durable, on other threads than the one that records.

use std::path::PathBuf;

use auditty_proto::v1::Report;
use uuid::Uuid;

use super::super::files::{SpoolError, sync_parent, write_whole};
use super::super::spool_file::FileSync;
use super::super::usage::Usage;
use super::{Chunk, SpooledSession, added};

/// What may be told when everything is durable.
pub(super) struct Syncing {
    /// How many of the waiting reports.
    reports: usize,
    /// What the collector does not know of the session.
    news: bool,
}

/// What may be told.
#[derive(Default)]
pub(in crate::delivery) struct Durable {
    /// The session itself, before the reports.
    pub(in crate::delivery) news: bool,
    pub(in crate::delivery) reports: Vec<Report>,
}

/// What other threads do to make a session durable.
pub(in crate::delivery) struct SyncJob {
    id: Uuid,
    data: Option<FileSync>,
    record: Option<(PathBuf, Vec<u8>)>,
    /// The session's folder, where its name is to be made durable.
    place: Option<PathBuf>,
}

/// What became of it.
pub(in crate::delivery) struct Synced {
    pub(in crate::delivery) id: Uuid,
    data: Option<(FileSync, Result<(), SpoolError>)>,
    record: Result<(), SpoolError>,
}

impl SyncJob {
    /// Waits for the disk. The record first: what is durable of a chunk then
    /// never stands without it.
    pub(in crate::delivery) fn run(self) -> Synced {
        let kept = match self.record {
            Some((path, json)) => write_whole(&path, &json),
            None => Ok(()),
        };
        let record = kept.and_then(|()| self.place.iter().try_for_each(|path| sync_parent(path)));
        let data = self.data.map(|sync| {
            let result = sync.run();
            (sync, result)
        });
        let id = self.id;
        Synced { id, data, record }
    }
}

impl SpooledSession {
    /// What has to be done so that everything is durable; `None` when there is
    /// nothing to do, or it is being done. Until [`SpooledSession::end_sync`] the
    /// session is neither sealed nor ended.
    pub(in crate::delivery) fn begin_sync(
        &mut self,
        usage: &Usage,
    ) -> Result<Option<SyncJob>, SpoolError> {
        if self.is_syncing() || self.chunk.is_sealing() {
            return Ok(None);
        }
        let mut data = None;
        let mut bytes = self.counted_bytes;
        match &mut self.chunk {
            Chunk::Open(chunk) => {
                data = chunk.begin_sync()?;
                self.rewritten = added(self.rewritten, chunk.take_rewritten());
                bytes = chunk.stored_bytes();
            }
            Chunk::OpenEncrypted(chunk) => {
                data = chunk.begin_sync(&self.kept.record)?;
                self.rewritten = added(self.rewritten, chunk.take_rewritten());
                bytes = chunk.stored_bytes();
            }
            Chunk::None | Chunk::Sealing(_) | Chunk::SealingEncrypted(_) => {}
        }
        usage.add(bytes.saturating_sub(self.counted_bytes));
        self.counted_bytes = bytes;
        let news = self.unreported;
        let mut record = None;
        if news || self.updated {
            self.kept.reports += u64::from(news);
            record = Some(self.folder.kept_file(&self.kept)?);
        }
        if data.is_none() && record.is_none() && self.reports.is_empty() {
            return Ok(None);
        }
        if record.is_some() {
            (self.unkept, self.updated, self.unreported) = (false, false, false);
        }
        let reports = self.reports.len();
        self.syncing = Some(Syncing { reports, news });
        Ok(Some(SyncJob {
            id: self.key.session_id(),
            data,
            record,
            place: (!self.placed).then(|| self.folder.path().to_owned()),
        }))
    }

    /// Other threads make it durable just now.
    pub(in crate::delivery) fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// What had to be done is done, or not; `None` when nobody knows.
    pub(in crate::delivery) fn end_sync(
        &mut self,
        synced: Option<Synced>,
    ) -> Result<Durable, SpoolError> {
        let Some(Syncing { reports, news }) = self.syncing.take() else {
            return Ok(Durable::default());
        };
        let ended = match synced {
            Some(Synced { data, record, .. }) => self.synced(data).and(record),
            None => Err(SpoolError::malformed(
                self.folder.path(),
                "nobody synced it",
            )),
        };
        if let Err(error) = ended {
            (self.unkept, self.updated) = (true, true);
            self.unreported |= news;
            return Err(error);
        }
        self.placed = true;
        let reports = self.reports.drain(..reports).collect();
        Ok(Durable { news, reports })
    }

    fn synced(
        &mut self,
        data: Option<(FileSync, Result<(), SpoolError>)>,
    ) -> Result<(), SpoolError> {
        match (data, &mut self.chunk) {
            (Some((sync, result)), Chunk::Open(chunk)) => chunk.end_sync(&sync, result),
            (Some((sync, result)), Chunk::OpenEncrypted(chunk)) => chunk.end_sync(&sync, result),
            (Some((_, result)), _) => result,
            (None, _) => Ok(()),
        }
    }

    /// Bytes that had to be written again after a failed sync, since the last
    /// call.
    pub(in crate::delivery) fn take_rewritten(&mut self) -> Option<u64> {
        self.rewritten.take()
    }
}

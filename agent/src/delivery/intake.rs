//! How events come into the spool.

use std::borrow::Cow;
use std::sync::Arc;

use auditty_recording::event::{Event, GapClass};
use auditty_recording::key::SessionKey;
use uuid::Uuid;

use super::failed_logins;
use super::folder::KeptSession;
use super::session::SpooledSession;
use super::spool::{MAX_UNWRITTEN_REPORTS, Spool, session_folder};
use crate::sessions::FailedLogin;
use crate::sessions::sink::{SessionRecord, Sink, SinkError};

impl Sink for Spool {
    fn sheds(&self, class: GapClass) -> bool {
        let sheds = self.usage.sheds(class);
        if sheds {
            self.usage.refuse();
        }
        sheds
    }

    fn append(&mut self, record: &SessionRecord, event: &Event) -> Result<(), SinkError> {
        let taken = self.take(record, event);
        if taken.is_err() {
            self.usage.refuse();
        }
        taken
    }

    fn changed(&mut self, record: &SessionRecord) {
        let record = &*self.kept(record);
        let journaled = self.journal.is_some();
        match self.entry(record) {
            Ok(session) => {
                let led = session.kept.record.leader_pid != record.leader_pid;
                session.update(record);
                // Without a journal the next agent finds the session's process
                // by this alone.
                if led && !journaled {
                    self.keep_now(record.session.session_id);
                }
            }
            Err(error) => {
                tracing::error!(session = %record.session.session_id, %error, "the session cannot be kept");
            }
        }
    }

    fn keep(&mut self, record: &SessionRecord) {
        let record = &*self.kept(record);
        if let Some(session) = self.sessions.get_mut(&record.session.session_id) {
            session.keep(record);
        }
    }

    fn failed_logins(&mut self, logins: &[FailedLogin]) -> Result<(), SinkError> {
        let room = MAX_UNWRITTEN_REPORTS.saturating_sub(self.outbox.waiting());
        if self.usage.is_full() || room < logins.len() {
            return Err(SinkError("it has no room".to_owned()));
        }
        for login in logins {
            self.push_report(failed_logins::report(login));
        }
        let problem = self.write_reports();
        if problem.is_some() {
            self.note(problem);
        }
        Ok(())
    }

    fn finished(&mut self, record: &SessionRecord) {
        self.changed(record);
        if let Some(session) = self.sessions.get_mut(&record.session.session_id) {
            (session.ending, session.unjournaled) = (true, true);
        }
    }
}

impl Spool {
    /// What of a session may be kept in the clear.
    fn kept<'r>(&self, record: &'r SessionRecord) -> Cow<'r, SessionRecord> {
        match self.options.withholds_content() {
            true => Cow::Owned(record.without_content()),
            false => Cow::Borrowed(record),
        }
    }

    /// Takes an event, or says why not.
    fn take(&mut self, record: &SessionRecord, event: &Event) -> Result<(), SinkError> {
        if self.usage.is_full() {
            return Err(SinkError("it is full".to_owned()));
        }
        if self.outbox.waiting() >= MAX_UNWRITTEN_REPORTS {
            return Err(SinkError(
                self.trouble
                    .clone()
                    .unwrap_or_else(|| "the outbox is full".to_owned()),
            ));
        }
        let (options, usage) = (Arc::clone(&self.options), self.usage.clone());
        self.entry(record)?
            .append(&options, &usage, event)
            .map_err(SinkError)
    }

    /// Writes `record.json`, without waiting for its turn.
    fn keep_now(&mut self, id: Uuid) {
        self.await_sync();
        let session = self.sessions.get_mut(&id);
        if let Some(Err(error)) = session.map(SpooledSession::write_kept) {
            self.note(Some(error));
        }
    }

    /// The session of `record`, in the spool from now on.
    fn entry(&mut self, record: &SessionRecord) -> Result<&mut SpooledSession, SinkError> {
        let id = record.session.session_id;
        if !self.sessions.contains_key(&id) {
            let refused = |error: &dyn std::fmt::Display| SinkError(error.to_string());
            let session = &record.session;
            let key = SessionKey::new(&self.options.host_id, id, session.start_time)
                .map_err(|error| refused(&error))?;
            let folder = session_folder(&self.options.directory, id);
            let kept = KeptSession {
                key: key.to_string(),
                record: self.kept(record).into_owned(),
                finished: false,
                checkpoint: 0,
                reports: 0,
            };
            folder.create(&kept).map_err(|error| refused(&error))?;
            self.sessions
                .insert(id, SpooledSession::new(folder, key, kept));
        }
        self.sessions
            .get_mut(&id)
            .ok_or_else(|| SinkError("it is not there".to_owned()))
    }
}

//! How far the kernel's rings are recorded.

use super::files::SpoolError;
use super::journal::{self, Entry, Journal, Journaled, Point};
use super::spool::Spool;

impl Spool {
    /// Keeps a journal for the rings with this name from now on, going on with
    /// the one of the agent before.
    pub fn begin_journal(
        &mut self,
        rings: Option<&str>,
        before: Option<Journaled>,
    ) -> Result<(), SpoolError> {
        let directory = &self.options.directory;
        self.journal = match rings {
            Some(rings) => Some(Journal::begin(
                directory,
                &self.options.boot_id,
                rings,
                before,
            )?),
            None => {
                journal::remove(directory)?;
                None
            }
        };
        Ok(())
    }

    /// Writes everything out, so that it survives the agent, and notes that the
    /// kernel's rings are recorded up to here. Nothing is sealed, reported or
    /// finished that has not gone through here.
    pub fn commit(&mut self, point: &Point) {
        let mut problem = None;
        for session in self.sessions.values_mut() {
            problem = session.write().err().or(problem);
        }
        if let Some(journal) = &mut self.journal {
            if journal.is_long() {
                let sessions = &self.sessions;
                journal.forget(|id| sessions.get(id).is_none_or(|s| s.kept.finished));
            }
            let changed = self.sessions.values_mut().filter(|s| s.unjournaled);
            let entries = changed.map(|session| {
                session.unjournaled = false;
                Entry {
                    record: session.kept.record.clone(),
                    finished: session.ending,
                }
            });
            if let Err(error) = journal.write(point, entries.collect()) {
                // What is not in a journal is a gap for the next agent. It must
                // not go by one that lags behind.
                let removed = journal::remove(&self.options.directory);
                problem = removed.err().or(Some(error));
            }
        }
        if problem.is_some() {
            self.note(problem);
        }
    }
}

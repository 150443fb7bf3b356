//! When the spool makes a digest, and what stands in it.

use std::time::Instant;

use auditty_recording::digest::Digest;
use auditty_recording::host::{DigestContent, DigestReason, OpenSession};

use super::files::SpoolError;
use super::session::SpooledSession;
use super::spool::Spool;

impl Spool {
    /// Makes a digest when it is due, and changes the signing key when that is.
    pub(super) fn attest(&mut self, now: Instant) -> Result<(), SpoolError> {
        if self.signer.key_is_due(now) {
            self.signer.put_off_rotation(now);
            self.digest(DigestReason::Rotation)?;
            self.signer.rotate()?;
        } else if self.signer.digest_is_due(now) {
            self.digest(DigestReason::Interval)?;
        }
        Ok(())
    }

    /// Makes a digest.
    pub(super) fn digest(&mut self, reason: DigestReason) -> Result<(), SpoolError> {
        let mut content = DigestContent {
            reason,
            boot_id: self.options.boot_id.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: self.options.configuration,
            ..DigestContent::default()
        };
        for session in self.sessions.values() {
            if !session.kept.finished {
                content.open.push(open(session));
            }
            if session.is_waiting() {
                content.waiting.push(session.key.clone());
            }
        }
        content.open.sort_by(|a, b| a.session.cmp(&b.session));
        content.waiting.sort();
        content.counters = [
            ("open_sessions", content.open.len() as u64),
            ("spool_bytes", self.usage.bytes()),
            ("quarantined_files", self.quarantine.held()),
            ("refused_events", self.usage.refused()),
            ("rewritten_bytes", self.rewritten),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into();
        self.signer.digest(content)
    }
}

/// What the store has acknowledged of a session that goes on.
fn open(session: &SpooledSession) -> OpenSession {
    let stored = session.stored.as_ref();
    OpenSession {
        session: session.key.clone(),
        chunks: stored.map_or(0, |stored| stored.chunk_count),
        chain_head: stored.map_or(Digest::ZERO, |stored| stored.chain_head),
    }
}

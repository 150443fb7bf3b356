//! What the spool has to say about recordings, on their timelines.

use auditty_recording::event::{Body, Gap, GapCause, GapClass, Marker};
use auditty_recording::key::Form;
use uuid::Uuid;

use super::folder::Seal;
use super::spool::Spool;
use crate::capture::now_boot_ns;

impl Spool {
    /// What has to be said on the timelines of open sessions, once.
    pub fn take_notes(&mut self) -> Vec<(Uuid, Body)> {
        std::mem::take(&mut self.notes)
    }

    pub(super) fn note_doubts(&mut self) {
        for (id, session) in &mut self.sessions {
            if let Some(bytes) = session.take_rewritten() {
                self.rewritten = self.rewritten.saturating_add(bytes);
                self.notes.push((*id, rewritten(bytes)));
            }
        }
        let lost = self.uploads.take_lost();
        self.notes
            .extend(lost.into_iter().map(|(id, seal)| (id, lost_chunk(&seal))));
    }
}

/// What a failed sync leaves on a timeline.
fn rewritten(bytes: u64) -> Body {
    Body::Marker(Marker {
        marker: "spool_rewritten".into(),
        message: format!(
            "The disk failed to sync the spool: {bytes} bytes of this recording were written again from memory."
        ),
    })
}

/// What a sealed chunk that was damaged before it could leave the host does.
fn lost_chunk(seal: &Seal) -> Body {
    let entry = &seal.entry;
    let events = entry.last_seq.saturating_sub(entry.first_seq) + 1;
    // Of what was typed the events are in the chunk before, without their bytes.
    let (class, events) = match entry.form() {
        Form::EncryptedInput => (GapClass::Input, None),
        Form::Clear | Form::Encrypted => (GapClass::Any, Some(events)),
    };
    Body::Gap(Gap {
        cause: GapCause::Spool,
        class,
        events,
        bytes: None,
        stream: None,
        terminal: None,
        offset: None,
        from_boot_ns: 0,
        to_boot_ns: now_boot_ns(),
    })
}

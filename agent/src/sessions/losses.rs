//! Losses the kernel counted, on the timelines they concern.
//!
//! Lost stream bytes show as holes between offsets, exactly and in their place.
//! Only what no hole has shown when a session is over, such as a lost tail, is
//! declared from the counts.

use auditty_recording::event::{GapCause, GapClass};

use super::Sessions;
use super::lineage::{Owner, SessionKey};
use super::sink::Sink;
use super::timeline::Out;
use crate::capture::event::{KernelEvent, Loss, LossCause, LossClass};

impl Sessions {
    pub(super) fn loss(&mut self, event: &KernelEvent, loss: &Loss, sink: &mut dyn Sink) {
        let everywhere = loss.host_wide || event.connection == 0;
        if loss.class == LossClass::Stream && !everywhere {
            self.stream_loss(event, loss);
            return;
        }
        self.login_loss(loss.class, (!everywhere).then_some(event.connection));
        let connection = self.connections.get(&event.connection);
        let keys = match self.roots.owner(event.connection, event.root) {
            _ if everywhere => self.keys(),
            Owner::Session(key) => vec![key],
            _ => connection.map(|c| c.sessions.clone()).unwrap_or_default(),
        };
        if keys.is_empty() {
            self.counters.unattributed_losses += 1;
        }
        // Which session lost the bytes shows in its offsets.
        let bytes = if loss.class == LossClass::Stream {
            0
        } else {
            loss.bytes
        };
        let amount = (known(loss.events), known(bytes));
        let span = (loss.since_boot_ns, event.boot_ns);
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        for key in keys {
            if let Some(session) = self.sessions.get_mut(&key) {
                let what = (cause(loss.cause), class(loss.class));
                session.lose(&mut out, what, amount, span);
            }
        }
    }

    fn stream_loss(&mut self, event: &KernelEvent, loss: &Loss) {
        let Some(connection) = self.connections.get_mut(&event.connection) else {
            self.counters.unattributed_losses += 1;
            return;
        };
        let known = &mut connection.stream_loss;
        if known.bytes == 0 {
            known.since_boot_ns = loss.since_boot_ns;
        }
        known.cause = Some(cause(loss.cause));
        known.bytes += loss.bytes;
        known.until_boot_ns = event.boot_ns;
    }

    /// An event, or bytes, whose session is not known: they may be of each that is
    /// open.
    pub(super) fn of_any_session(
        &mut self,
        event: &KernelEvent,
        class: GapClass,
        amount: (Option<u64>, Option<u64>),
        sink: &mut dyn Sink,
    ) {
        let connection = self.connections.get(&event.connection);
        let keys = connection.map_or_else(Vec::new, |c| c.sessions.clone());
        for key in keys {
            if let Some((session, mut out)) = self.open(key, sink) {
                let span = (event.boot_ns, event.boot_ns);
                let what = (GapCause::Unattributed, class);
                session.lose(&mut out, what, amount, span);
            }
        }
    }

    /// Before a session is finished: stream bytes of its connection that are
    /// lost and showed nowhere may be its own. Beside other open sessions their
    /// number cannot be told apart.
    pub(super) fn declare_unseen_stream_loss(&mut self, key: SessionKey, sink: &mut dyn Sink) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(&session.connection) else {
            return;
        };
        let loss = &mut connection.stream_loss;
        let unseen = loss.bytes.saturating_sub(loss.shown_bytes);
        let Some(cause) = loss.cause.filter(|_| unseen > 0) else {
            return;
        };
        let alone = connection.sessions.len() == 1;
        if alone {
            loss.shown_bytes += unseen;
        }
        let span = (loss.since_boot_ns, loss.until_boot_ns);
        let mut out = Out {
            sink,
            clock: self.clock,
            counters: &mut self.counters,
        };
        let bytes = alone.then_some(unseen);
        session.lose(&mut out, (cause, GapClass::Any), (None, bytes), span);
    }
}

/// 0 stands for not known.
fn known(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}

fn cause(cause: LossCause) -> GapCause {
    match cause {
        LossCause::RingFull => GapCause::RingFull,
        LossCause::ReadFailed => GapCause::ReadFailed,
        LossCause::ProgramMissed => GapCause::ProgramMissed,
        LossCause::TableFull => GapCause::TableFull,
        LossCause::TooLarge => GapCause::TooLarge,
        LossCause::Malformed => GapCause::Malformed,
    }
}

fn class(class: LossClass) -> GapClass {
    match class {
        LossClass::Process => GapClass::Process,
        LossClass::Exec => GapClass::Exec,
        LossClass::File => GapClass::File,
        LossClass::Network => GapClass::Network,
        LossClass::Login => GapClass::Login,
        LossClass::Stream | LossClass::Any => GapClass::Any,
    }
}

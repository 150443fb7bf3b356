//! When and why a session ended.
//!
//! The end is decided when the session's own process exits, but told a little
//! later, because sshd still drains the pty and a session's end stands after its
//! last output. Death by hangup needs a look at what follows: when a client is
//! killed, sshd closes the pty before it exits itself, so the shell's SIGHUP
//! comes first and the end of the connection right behind it.

use auditty_recording::event::{Body, EndReason, ExitStatus, SessionEnd};

use super::session::OpenSession;
use super::timeline::Out;

/// sshd drains a pty within milliseconds unless the client has stopped reading.
const DRAIN_NS: u64 = 500_000_000;

/// The connection of a killed client ends within this time of the hangup.
const HANGUP_NS: u64 = 1_000_000_000;

/// A recording stays open this long for a client that has stopped reading,
/// while its connection lives.
const LINGER_NS: u64 = 10_000_000_000;

const SIGHUP: u8 = 1;
const SIGPIPE: u8 = 13;
/// How a shell reports death by signal as an exit code.
const SIGNAL_CODE: u8 = 128;

/// How far the end has come.
#[derive(Debug, Default)]
pub(super) enum Ending {
    /// It has not ended.
    #[default]
    Open,
    /// It has, and will be told.
    Decided(End),
    /// It is told.
    Told,
}

/// A decided end.
#[derive(Debug)]
pub(super) struct End {
    reason: EndReason,
    status: ExitStatus,
    boot_ns: u64,
    /// Told at this time at the latest.
    until: u64,
    /// A hangup: the end of the connection would make it a disconnect.
    hangup: bool,
}

/// The status as the kernel's `wait` encodes it.
pub(super) fn exit_status(wait_status: u32) -> ExitStatus {
    let signal = (wait_status & 0x7f) as u8;
    match signal {
        0 => ExitStatus {
            exit_code: Some((wait_status >> 8 & 0xff) as u8),
            signal: None,
        },
        _ => ExitStatus {
            exit_code: None,
            signal: Some(signal),
        },
    }
}

impl OpenSession {
    /// The session's own process ended; `None` when nobody saw how.
    pub(super) fn root_exited(&mut self, boot_ns: u64, status: Option<ExitStatus>) {
        if let Some(root) = &mut self.root {
            root.exited = Some(boot_ns);
        }
        self.timeline.record.kernel.exited = Some((boot_ns, status));
        self.active_boot_ns = self.active_boot_ns.max(boot_ns);
        match &mut self.ending {
            Ending::Open => {
                let hangup = status.is_some_and(|status| self.is_hangup(status));
                let reason = match status {
                    None => EndReason::Unknown,
                    Some(status) if status.signal.is_some() => EndReason::Killed,
                    Some(_) => EndReason::Exited,
                };
                self.ending = Ending::Decided(End {
                    reason,
                    status: status.unwrap_or_default(),
                    boot_ns,
                    until: boot_ns.saturating_add(if hangup { HANGUP_NS } else { DRAIN_NS }),
                    hangup,
                });
            }
            Ending::Decided(end) => end.status = status.unwrap_or_default(),
            Ending::Told => {
                let session = &mut self.timeline.record.session;
                let status = status.unwrap_or_default();
                (session.exit_code, session.signal) = (status.exit_code, status.signal);
                self.dirty = true;
            }
        }
    }

    /// The server process that held its channel ended; `None` when nobody saw
    /// how. sshd catches what it is told to end with: only what cannot be caught
    /// kills it.
    pub(super) fn disconnected(&mut self, boot_ns: u64, status: Option<ExitStatus>) {
        self.closed = true;
        let side = &mut self.timeline.record.kernel;
        side.disconnected = Some((boot_ns, status));
        let killed = status.is_some_and(|status| status.signal.is_some());
        let reason = match killed {
            true => EndReason::ServerKilled,
            false => EndReason::Disconnected,
        };
        match &mut self.ending {
            Ending::Open => {
                self.ending = Ending::Decided(End {
                    reason,
                    status: ExitStatus::default(),
                    boot_ns,
                    until: boot_ns.saturating_add(DRAIN_NS),
                    hangup: false,
                });
            }
            Ending::Decided(end) if end.hangup && boot_ns <= end.until => {
                end.reason = reason;
                end.hangup = false;
            }
            // Its terminal was closed by its death, and that was seen first.
            Ending::Decided(end) if killed && end.reason == EndReason::Disconnected => {
                end.reason = reason;
            }
            Ending::Decided(_) | Ending::Told => {}
        }
    }

    /// Tells the end when it is time to, or `at_once`.
    pub(super) fn tell_end(&mut self, out: &mut Out<'_>, now: u64, at_once: bool) {
        let root_lives = self.root.is_some_and(|root| root.exited.is_none());
        let due = match &self.ending {
            Ending::Decided(end) => at_once || now >= end.until || (self.closed && !root_lives),
            Ending::Open | Ending::Told => false,
        };
        if !due {
            return;
        }
        let Ending::Decided(end) = std::mem::replace(&mut self.ending, Ending::Told) else {
            return;
        };
        let reason = match self.over_by_grant {
            true => EndReason::GrantOver,
            false => end.reason,
        };
        let end_time = self.timeline.record.end_at(end.boot_ns, out.clock);
        let session = &mut self.timeline.record.session;
        session.end_time = Some(end_time);
        session.end_reason = Some(reason);
        (session.exit_code, session.signal) = (end.status.exit_code, end.status.signal);
        self.dirty = true;
        self.ran_on = self.live > 0;
        self.streams.flush_all(&mut self.timeline, out);
        let boot_ns = end.boot_ns.max(self.timeline.last_boot_ns());
        self.tell_moved(out, boot_ns);
        self.declare_unsighted(out, boot_ns);
        let body = SessionEnd {
            reason,
            status: end.status,
            running_processes: self.live,
        };
        self.emit(out, boot_ns, Body::SessionEnd(body));
    }

    /// Whether its end is decided.
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.ending, Ending::Open)
    }

    /// Whether nothing more will come.
    pub(super) fn is_over(&self, now: u64) -> bool {
        let silent = now >= self.active_boot_ns.saturating_add(LINGER_NS);
        matches!(self.ending, Ending::Told) && self.live == 0 && (self.closed || silent)
    }

    /// Death by the loss of the terminal, or of the pipes without one.
    fn is_hangup(&self, status: ExitStatus) -> bool {
        let died_of = |signal| {
            status.signal == Some(signal) || status.exit_code == Some(SIGNAL_CODE + signal)
        };
        let terminal = !self.timeline.record.session.terminal.is_empty();
        died_of(SIGHUP) || (!terminal && died_of(SIGPIPE))
    }
}

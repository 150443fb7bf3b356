//! A session's metadata, put together from its events.

use crate::event::{Body, Event, Gap, LinkRelation, PROCESSES_ENDED};
use crate::manifest::{GapEntry, MAX_GAPS};
use crate::session::{Session, SessionKind, Verdict};

/// Folds the events of a recording into its [`Session`]: for recordings that
/// have no manifest yet. The verdict stays [`Verdict::Open`]: only the agent
/// knows whether it has seen everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The session as far as events were applied.
    pub session: Session,
    /// Declared losses, at most [`MAX_GAPS`]; `session.counts.gaps` has their
    /// number.
    pub gaps: Vec<GapEntry>,
}

impl Summary {
    /// Goes on from a session that is already known, such as a checkpoint's.
    pub fn new(session: Session, gaps: Vec<GapEntry>) -> Self {
        Self { session, gaps }
    }

    /// Takes in the next event.
    pub fn apply(&mut self, event: &Event) {
        let session = &mut self.session;
        session.counts.add(&event.body);
        match &event.body {
            Body::SessionStart(start) => {
                session.host.clone_from(&start.host);
                session.connection.clone_from(&start.connection);
                session.session_kind = start.session_kind;
                session.adopted = start.adopted;
                session.start_time = event.time;
                session.verdict = Verdict::Open;
            }
            Body::Login(login) => session.login.clone_from(login),
            Body::Grant(grant) => session.grant.clone_from(grant),
            Body::TerminalOpen(open) if open.terminal == 0 => {
                session.terminal.clone_from(&open.name);
            }
            Body::Exec(exec) => take_command(session, &exec.argv),
            Body::Link(link) if link.relation == LinkRelation::Parent => {
                session.parent_session_id = Some(link.session_id);
            }
            Body::Gap(gap) => self.apply_gap(event, gap),
            Body::Marker(marker) if marker.marker == PROCESSES_ENDED => {
                session.processes_end_time = Some(event.time);
                session.running_processes = 0;
            }
            Body::SessionEnd(end) => {
                session.end_time = Some(event.time);
                session.end_reason = Some(end.reason);
                session.exit_code = end.status.exit_code;
                session.signal = end.status.signal;
                session.running_processes = end.running_processes;
            }
            _ => {}
        }
    }

    fn apply_gap(&mut self, event: &Event, gap: &Gap) {
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(GapEntry {
                seq: event.seq,
                time: event.time,
                gap: gap.clone(),
            });
        }
    }
}

/// sshd runs a requested command as `shell -c command`, and that is the
/// session's first exec.
fn take_command(session: &mut Session, argv: &[String]) {
    let requested = matches!(
        session.session_kind,
        SessionKind::Exec | SessionKind::Subsystem
    );
    if let ([_, flag, command], true, 1) = (argv, requested, session.counts.commands)
        && flag == "-c"
    {
        session.command.clone_from(command);
    }
}

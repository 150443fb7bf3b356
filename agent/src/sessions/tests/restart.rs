use auditty_recording::event::{Body, EndReason, GapCause, Stream};
use auditty_recording::session::Verdict;

use super::rig::{CHILD, MONITOR, MS, Rig, SHELL, SSHD};
use crate::capture::event::{ConnectionStart, Fact, Fd, KernelEvent};
use crate::sessions::Restart;
use crate::sessions::sink::SessionRecord;

/// A shell with a background process, and the agent stops.
fn stopped() -> (Rig, SessionRecord, u64) {
    let mut rig = Rig::logged_in();
    rig.fork(SSHD, SHELL);
    let started = rig.now;
    rig.root(SHELL, &["-bash"], [Fd::Pts(0); 3]);
    rig.fork(SHELL, 120);
    rig.exec(120, &["old"]);
    rig.output(0, 0, "before");
    rig.sessions.shutdown(false, &mut rig.sink);
    let recorded = rig.session(0);
    assert_eq!(recorded.story().last().unwrap(), "marker agent_stopped");
    assert!(!recorded.finished && recorded.end().is_none());
    let record = recorded.record.clone();
    (rig, record, started)
}

/// A new agent with the old one's recording.
fn restarted(old: Rig, record: SessionRecord, lives: bool) -> Rig {
    let mut rig = Rig::new();
    rig.sink = old.sink;
    rig.now = old.now + 3_000 * MS;
    let leader = record.leader_pid;
    let live = move |pid, _| lives && pid == leader;
    rig.sessions.resume(
        Restart::Unpinned(vec![record]),
        &live,
        rig.now,
        &mut rig.sink,
    );
    rig
}

fn announce(rig: &mut Rig, pid: u32, parent: u32, boot_ns: u64, argv: &[&str], leader: bool) {
    let fork = KernelEvent {
        boot_ns,
        connection: 9,
        root: 0,
        pid,
        fact: Fact::Fork { parent },
    };
    rig.sessions.apply(&fork, &mut rig.sink);
    let now = std::mem::replace(&mut rig.now, boot_ns - MS);
    rig.exec_with(pid, argv, |exec| {
        exec.parent = parent;
        exec.adopted = true;
        exec.session_leader = leader;
        exec.server = pid == SSHD;
        exec.fds = [Fd::Pts(0); 3];
    });
    rig.now = now;
}

#[test]
fn a_session_goes_on_after_a_restart() {
    let (old, record, started) = stopped();
    let down_from = record.last_boot_ns;
    let mut rig = restarted(old, record, true);
    rig.connection = 9;
    let up = rig.now;
    rig.connect(
        MONITOR,
        ConnectionStart {
            adopted: true,
            ..ConnectionStart::default()
        },
    );
    announce(&mut rig, SSHD, MONITOR, started - MS, &["sshd"], false);
    announce(&mut rig, SHELL, SSHD, started + 10 * MS, &["-bash"], true);
    announce(&mut rig, 120, SHELL, started + 2 * MS, &["old"], false);
    announce(&mut rig, 121, SHELL, up - 100 * MS, &["new"], false);
    rig.output(0, 50, "after");
    rig.exit(120, 0);
    rig.exit(121, 0);
    rig.exit(SHELL, 0);
    rig.disconnect();
    assert_eq!(rig.count(), 1);
    let recorded = rig.session(0);
    let story = recorded.story();
    let stop = story
        .iter()
        .position(|line| line == "marker agent_stopped")
        .unwrap();
    assert_eq!(
        story[stop + 1..],
        [
            "marker agent_resumed".to_owned(),
            "gap AgentDown".to_owned(),
            "exec new".to_owned(),
            "resize 80x24".to_owned(),
            "Terminal>after".to_owned(),
            format!("exit 121 of {}", stop + 4),
            "end Exited".to_owned(),
        ]
    );
    let gap = &recorded.gaps()[0];
    assert_eq!(
        (gap.cause, gap.from_boot_ns, gap.to_boot_ns),
        (GapCause::AgentDown, down_from, up)
    );
    let output = recorded.output(Stream::Terminal);
    assert_eq!(output, [(0, b"before".to_vec()), (6, b"after".to_vec())]);
    assert!(recorded.finished);
    assert_eq!(recorded.session().verdict, Verdict::Interrupted);
}

#[test]
fn a_session_that_ended_meanwhile_is_closed() {
    let (old, record, _) = stopped();
    let rig = restarted(old, record, false);
    let recorded = rig.session(0);
    let story = recorded.story();
    assert_eq!(
        story[story.len() - 3..],
        ["marker recovered", "gap AgentDown", "end Unknown"]
    );
    assert!(recorded.finished);
    assert_eq!(recorded.session().verdict, Verdict::Interrupted);
    assert_eq!(recorded.session().end_reason, Some(EndReason::Unknown));
}

#[test]
fn a_reboot_ends_a_session_when_it_was_last_heard_of() {
    let (old, mut record, _) = stopped();
    record.session.host.boot_id = "another".into();
    let last = old.session(0).events.iter().rfind(|event| {
        // Not the agent's own remark that it stopped.
        matches!(event.body, Body::Output(_))
    });
    let last = last.unwrap().time;
    let mut rig = restarted(old, record, true);
    let recorded = rig.session(0);
    let story = recorded.story();
    assert_eq!(
        story[story.len() - 3..],
        ["marker recovered", "gap AgentDown", "end HostReboot"]
    );
    assert!(recorded.finished);
    let session = recorded.session();
    assert_eq!(session.verdict, Verdict::Interrupted);
    assert_eq!(session.end_time, Some(last));
    // A process with the old one's id is somebody else's.
    rig.pass(61_000);
    assert_eq!(rig.count(), 1);
}

#[test]
fn another_process_with_this_id_is_not_the_session() {
    let (old, record, started) = stopped();
    let mut rig = restarted(old, record, true);
    rig.connection = 9;
    rig.connect(
        MONITOR,
        ConnectionStart {
            adopted: true,
            ..ConnectionStart::default()
        },
    );
    announce(&mut rig, SSHD, MONITOR, started, &["sshd"], false);
    announce(&mut rig, SHELL, SSHD, started + 60 * MS, &["-bash"], true);
    assert_eq!(rig.count(), 2);
    rig.pass(61_000);
    assert!(rig.session(0).finished && !rig.session(1).finished);
    assert_eq!(rig.session(0).end().unwrap().reason, EndReason::Unknown);
}

#[test]
fn a_decided_end_is_told_before_the_agent_stops() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 0);
    rig.exit(SHELL, 0);
    rig.end_of_batch();
    rig.sessions.shutdown(false, &mut rig.sink);
    assert_eq!(rig.session(0).story().last().unwrap(), "end Exited");
    assert!(rig.session(0).finished);
}

/// What PAM runs in a login looks like a session's own process.
#[test]
fn what_sshd_runs_in_a_login_is_no_session_of_its_own() {
    for (others, sessions) in [(true, 0), (false, 1)] {
        let mut rig = Rig::new();
        let start = ConnectionStart {
            adopted: true,
            ..ConnectionStart::default()
        };
        rig.connect(MONITOR, start);
        if others {
            rig.fork(MONITOR, CHILD);
        }
        rig.fork(MONITOR, SHELL);
        rig.exec_with(SHELL, &["permit"], |exec| {
            exec.parent = MONITOR;
            exec.adopted = true;
            exec.session_leader = true;
        });
        rig.end_of_batch();
        assert_eq!(rig.count(), sessions);
    }
}

#[test]
fn what_pam_runs_is_no_session_before_the_login_and_after() {
    let of_pam = [Fd::Pipe(1), Fd::Pipe(2), Fd::Pipe(2)];
    let of_sshd = [Fd::Pipe(3), Fd::Pipe(4), Fd::Pipe(5)];
    for (user, after) in [("\x05alice", 0), ("\x04root", 1)] {
        let mut rig = Rig::new();
        rig.connect(MONITOR, ConnectionStart::default());
        rig.fork(MONITOR, CHILD);
        rig.monitor(CHILD, 8, format!("\0\0\0{user}").as_bytes());
        rig.fork(MONITOR, 130);
        rig.exec_with(130, &["permit"], |exec| {
            (exec.session_leader, exec.fds, exec.uid) = (true, of_pam, 0);
        });
        rig.exit(130, 0);
        rig.monitor(MONITOR, 13, b"\0\0\0\x01");
        rig.exit(CHILD, 0);
        assert_eq!(rig.count(), 0);
        // What PAM's session modules run is nobody's, also where the monitor
        // itself serves the user, as it does root.
        rig.fork(MONITOR, 131);
        rig.exec_with(131, &["open-session"], |exec| {
            (exec.session_leader, exec.fds, exec.uid) = (true, of_pam, 0);
        });
        rig.exit(131, 0);
        rig.end_of_batch();
        assert_eq!(rig.count(), 0, "{user}");
        rig.fork(MONITOR, 132);
        rig.root(132, &["command"], of_sshd);
        rig.end_of_batch();
        assert_eq!(rig.count(), after, "{user}");
        if after == 1 {
            let commands = rig.session(0).story();
            assert!(
                !commands.contains(&"exec open-session".to_owned()),
                "{commands:?}"
            );
        }
    }
}

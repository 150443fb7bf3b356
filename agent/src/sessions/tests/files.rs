use auditty_recording::event::{Body, GapClass, TransferDirection, TransferProtocol};
use auditty_recording::session::SessionKind;
use nix::libc::{O_CLOEXEC, O_CREAT, O_WRONLY};

use super::rig::{MS, Rig, SHELL, SSHD};
use crate::capture::event::{Direction, Fact, FileAccess, FileOperation, PipeData};

fn access(operation: FileOperation, path: &str) -> FileAccess {
    FileAccess {
        operation,
        path: path.into(),
        resolved: true,
        ..FileAccess::default()
    }
}

impl Rig {
    fn file(&mut self, pid: u32, access: FileAccess) {
        self.fact(pid, Fact::File(Box::new(access)));
    }

    fn closed(&mut self, pid: u32, path: &str, flags: i32, (read, written): (u64, u64)) {
        self.file(
            pid,
            FileAccess {
                flags: flags.cast_unsigned(),
                read,
                written,
                mode: 0o100_640,
                opened_boot_ns: self.now - 3 * MS,
                ..access(FileOperation::Close, path)
            },
        );
    }

    fn program(&mut self, line: &str, exe: &str) {
        self.fork(SHELL, 120);
        let argv: Vec<&str> = line.split(' ').collect();
        self.exec_with(120, &argv, |exec| exec.exe = exe.into());
    }

    /// The timeline behind the session's beginning.
    fn facts(&mut self) -> Vec<String> {
        self.end_of_batch();
        let story = self.session(0).story();
        let from = story
            .iter()
            .rposition(|line| line.starts_with("exec "))
            .unwrap();
        story[from + 1..].to_vec()
    }

    fn omitted(&mut self, pid: u32, inode: u64, direction: Direction, offset: u64, len: u32) {
        let data = PipeData {
            inode,
            direction,
            offset: Some(offset),
            len,
            data: None,
            transfer: true,
        };
        self.fact(pid, Fact::Pipe(data));
    }
}

#[test]
fn files_are_told_with_what_is_known() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 3);
    let renamed = FileAccess {
        target: "/tmp/b".into(),
        resolved: false,
        error: 13,
        ..access(FileOperation::Rename, "/tmp/a")
    };
    rig.file(SHELL, renamed);
    rig.file(SHELL, access(FileOperation::OpenRead, "/etc/shadow"));
    rig.file(SHELL, access(FileOperation::Close, "/tmp/c"));
    // sshd's own log of logins.
    rig.file(SSHD, access(FileOperation::OpenWrite, "/var/log/wtmp"));
    assert_eq!(rig.facts(), ["Rename /tmp/a", "OpenRead /etc/shadow"]);
    let recorded = rig.session(0);
    let Body::File(file) = &recorded.events[recorded.events.len() - 2].body else {
        panic!();
    };
    assert_eq!(
        (file.target.as_deref(), file.errno),
        (Some("/tmp/b"), Some(13))
    );
    assert!(file.path_as_given && file.mode.is_none());
    assert_eq!(recorded.session().counts.files, 2);
}

#[test]
fn a_flood_of_files_is_bounded_and_counted_exactly() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 3);
    // 1 ms apart: 500 a second stay possible.
    for _ in 0..50_000 {
        rig.file(SHELL, access(FileOperation::Delete, "/tmp/x"));
    }
    rig.pass(2_000);
    let recorded = rig.session(0);
    let lost: u64 = recorded
        .gaps()
        .iter()
        .map(|gap| {
            assert_eq!(gap.class, GapClass::File);
            gap.events.unwrap()
        })
        .sum();
    let files = recorded.session().counts.files;
    assert_eq!(files + lost, 50_000);
    assert!((40_000..46_000).contains(&files), "{files}");
    assert!(recorded.gaps().len() < 20);
}

#[test]
fn what_an_sftp_server_closes_was_transferred() {
    let mut rig = Rig::logged_in();
    rig.command(SHELL, "/usr/lib/openssh/sftp-server");
    rig.program("sftp-server", "/usr/lib/openssh/sftp-server");
    rig.closed(120, "/etc/ld.so.cache", O_CLOEXEC, (100, 0));
    rig.closed(120, "/etc/passwd", O_CLOEXEC, (900, 0));
    rig.closed(120, "/etc/passwd", 0, (900, 0));
    rig.closed(120, "/srv/up", O_WRONLY | O_CREAT, (0, 70));
    rig.closed(120, "/srv/empty", O_WRONLY | O_CREAT, (0, 0));
    let denied = FileAccess {
        error: 13,
        ..access(FileOperation::OpenRead, "/etc/shadow")
    };
    rig.file(120, denied);
    assert_eq!(
        rig.facts(),
        [
            "Sftp Download /etc/passwd 900",
            "Sftp Upload /srv/up 70",
            "Sftp Upload /srv/empty 0",
            "Sftp Download /etc/shadow 0",
        ]
    );
    let recorded = rig.session(0);
    assert_eq!(recorded.session().session_kind, SessionKind::Subsystem);
    assert_eq!(recorded.session().counts.transfers, 4);
    let transfers: Vec<_> = recorded
        .events
        .iter()
        .filter_map(|event| match &event.body {
            Body::Transfer(transfer) => Some(transfer),
            _ => None,
        })
        .collect();
    assert_eq!((transfers[0].mode, transfers[0].errno), (Some(0o640), None));
    assert_eq!(transfers[0].duration_ns, 4 * MS);
    assert_eq!((transfers[3].mode, transfers[3].errno), (None, Some(13)));
}

#[test]
fn one_way_programs_transfer_one_way() {
    let mut rig = Rig::logged_in();
    rig.command(SHELL, "rsync --server -e.L . /srv");
    rig.program("rsync --server -e.L . /srv", "/usr/bin/rsync");
    // The receiver is a fork; it reads what it is about to replace.
    rig.fork(120, 121);
    rig.closed(121, "/srv/a", 0, (50, 0));
    rig.closed(121, "/srv/.a.Xy12", O_WRONLY | O_CREAT, (0, 60));
    rig.exit(121, 0);
    rig.fork(120, 122);
    rig.exec(122, &["cat", "/srv/a"]);
    rig.closed(122, "/srv/a", 0, (50, 0));
    rig.exit(122, 0);
    rig.end_of_batch();
    let story = rig.session(0).story();
    let transfers: Vec<_> = story.iter().filter(|line| line.contains("load")).collect();
    assert_eq!(transfers, ["Rsync Upload /srv/.a.Xy12 60"]);
    assert_eq!(rig.session(0).session().session_kind, SessionKind::Exec);
}

#[test]
fn git_moves_repositories() {
    let mut rig = Rig::logged_in();
    rig.command(SHELL, "git-upload-pack '/srv/x.git'");
    rig.exec_with(SHELL, &["git-upload-pack", "/srv/x.git"], |exec| {
        exec.exe = "/usr/bin/git".into();
        exec.filename = "/usr/bin/git-upload-pack".into();
    });
    rig.omitted(SSHD, 2, Direction::Output, 0, 5000);
    rig.exit(SHELL, 0);
    rig.disconnect();
    let transfers: Vec<_> = rig
        .session(0)
        .events
        .iter()
        .filter_map(|event| match &event.body {
            Body::Transfer(transfer) => Some(transfer.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(transfers.len(), 1);
    let transfer = &transfers[0];
    assert_eq!(
        (transfer.protocol, transfer.direction, transfer.bytes),
        (TransferProtocol::Git, TransferDirection::Download, 5000)
    );
    assert_eq!(transfer.path, "/srv/x.git");
}

#[test]
fn the_content_of_transfers_is_counted_together() {
    let mut rig = Rig::logged_in();
    rig.command(SHELL, "scp -f x");
    for piece in 0..100 {
        rig.omitted(SSHD, 2, Direction::Output, piece * 1000, 1000);
        rig.omitted(SSHD, 1, Direction::Input, piece, 1);
        rig.end_of_batch();
    }
    // A hole, and text behind it.
    rig.omitted(SSHD, 2, Direction::Output, 100_500, 10);
    rig.pipe(SSHD, 2, Direction::Output, 100_510, "text");
    rig.exit(SHELL, 0);
    rig.disconnect();
    let recorded = rig.session(0);
    let story = recorded.story();
    let pipes: Vec<_> = story
        .iter()
        .filter(|l| l.contains("Std") || l.contains("gap"))
        .collect();
    assert_eq!(
        pipes,
        [
            "Stdout>omitted 100000",
            "gap RingFull",
            "Stdout>omitted 10",
            "Stdout>text",
            "Stdin<omitted 100",
        ]
    );
    let counts = recorded.session().counts;
    assert_eq!(
        (counts.omitted_bytes, counts.output_bytes),
        (100_110, 100_014)
    );
    assert_eq!(counts.lost_bytes, 500);
}

#[test]
fn work_that_is_handed_over_is_told() {
    let mut rig = Rig::logged_in();
    rig.shell(SSHD, SHELL, 3);
    rig.program("systemd-run --user id", "/usr/bin/systemd-run");
    assert_eq!(rig.facts(), ["handoff Systemd of 6"]);
}

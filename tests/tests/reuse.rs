//! Names that are used again, and the same names in other namespaces: never the
//! wrong session. `tests/README.md` says which threat each test answers.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Stage,
    client::{Auth, Client, find},
    program::compile,
    store::Recording,
    user::TestUser,
};

fn of<'a>(recordings: &'a [Recording], user: &TestUser) -> Result<&'a Recording> {
    let mut all = recordings.iter();
    let found = all.find(|one| one.session()["login"]["user"] == user.name);
    found.context("a recording of each")
}

#[test]
fn a_process_id_that_is_used_again() -> Result<()> {
    let stage = Stage::new()?;
    let other = TestUser::create(&stage.scene)?;
    let key = stage.sshd.authorize(&other)?;
    // Claims a process id, which only root may.
    let claim = compile(&stage.scene, "claim_pid", &[])?;
    fs::set_permissions(&claim, fs::Permissions::from_mode(0o4755))?;

    let mut first = stage.client().shell()?;
    first.ready()?;
    let mut second = Client::new(&stage.sshd, &other, Auth::Key(key)).shell()?;
    second.ready()?;
    let mut claimed = Vec::new();
    for round in 0..20 {
        // The first session's process ends; the second takes its id at once.
        first.command(&format!("sh -c 'echo pid{round}=$$=; exec /bin/true'"))?;
        let screen = String::from_utf8_lossy(&first.screen()).into_owned();
        let mark = format!("\npid{round}=");
        let (_, rest) = screen.rsplit_once(&mark).context("a process id")?;
        let pid: u64 = rest.split('=').next().unwrap_or_default().parse()?;
        second.command(&format!(
            "{} {pid} /bin/echo claimed {round}",
            claim.display()
        ))?;
        first.command(&format!(
            "{} {pid} /bin/echo reclaimed {round}",
            claim.display()
        ))?;
        claimed.push(pid);
    }
    first.line("exit")?;
    first.finish(SOON)?;
    second.line("exit")?;
    second.finish(SOON)?;

    let recordings = stage.recordings(2)?;
    let (first, second) = (of(&recordings, &stage.user)?, of(&recordings, &other)?);
    first.assert_complete()?;
    second.assert_complete()?;
    for (round, pid) in claimed.iter().enumerate() {
        let round = round.to_string();
        let claimed = second.exec(&["/bin/echo", "claimed", &round])?;
        let reclaimed = first.exec(&["/bin/echo", "reclaimed", &round])?;
        for (recording, exec) in [(second, claimed), (first, reclaimed)] {
            assert_eq!(exec["pid"], *pid);
            assert_eq!(recording.exit_of(exec)?["exit_code"], 0);
        }
    }
    stage.end()
}

/// Runs a program on a pty of a devpts instance of its own.
const PRIVATE: &str = "\
import fcntl, os, struct, sys, termios
master = os.open('/mnt/ptmx', os.O_RDWR | os.O_NOCTTY)
fcntl.ioctl(master, 0x40045431, struct.pack('i', 0))
index = struct.unpack('I', fcntl.ioctl(master, 0x80045430, b'\\0' * 4))[0]
if os.fork() == 0:
    os.setsid()
    slave = os.open('/mnt/%d' % index, os.O_RDWR)
    for fd in range(3):
        os.dup2(slave, fd)
    os.execv('/bin/echo', ['echo', 'on a private terminal', str(index)])
os.wait()
os.write(1, os.read(master, 1000))
";

#[test]
fn a_terminal_name_of_a_private_instance() -> Result<()> {
    let stage = Stage::new()?;
    let script = stage.scene.write("private.py", PRIVATE)?;
    let remote = format!(
        "unshare -Urmpf --mount-proc sh -c 'mount -t devpts -o newinstance,ptmxmode=666 none /mnt \
         && for round in 1 2 3; do python3 {}; done'",
        script.display()
    );
    // Two outer terminals, one of which may have the same index.
    let mut quiet = stage.client().shell()?;
    quiet.ready()?;
    let shown = stage.client().run_tty(&remote)?.stdout;
    assert!(find(&shown, b"on a private terminal 0").is_some());
    quiet.line("exit")?;
    let (_, quiet) = quiet.finish(SOON)?;

    let recordings = stage.recordings(2)?;
    for recording in &recordings {
        recording.assert_complete()?;
    }
    assert_eq!(recordings[0].bytes("output", "terminal")?, quiet);
    assert_eq!(recordings[1].bytes("output", "terminal")?, shown);
    let inner: Vec<_> = recordings[1]
        .of("terminal_open")
        .iter()
        .filter_map(|open| open["terminal"].as_u64())
        .collect();
    assert_eq!(inner, [0, 1, 2, 3]);
    for terminal in 1..=3 {
        let shown = recordings[1].bytes_of_terminal("output", terminal)?;
        assert_eq!(shown, b"on a private terminal 0\r\n");
    }
    stage.end()
}

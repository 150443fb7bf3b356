//! What a session's programs use, of which no more is captured than that.

use anyhow::{Result, ensure};

use crate::{
    account,
    outcome::Outcome,
    rig::{Rig, present},
};

/// A datagram, an io_uring (425), and a child that is traced (101,
/// `PTRACE_SEIZE`). Prints what the last two calls returned.
const PROGRAM: &str = "use Socket; socket(my $s, PF_INET, SOCK_DGRAM, 0); \
     send($s, \"x\", 0, pack_sockaddr_in(9, INADDR_LOOPBACK)) for 1..3; \
     my $p = \"\\0\" x 120; my $ring = syscall(425, 4, $p); \
     my $child = fork // die; if (!$child) { sleep 9; exit } \
     my $traced = syscall(101, 0x4206, $child, 0, 0); kill 9, $child; \
     print \"$ring $traced $child\\n\"";

/// Each is told once, with where to and whom.
pub fn uses(rig: &mut Rig) -> Result<Outcome> {
    if !present("perl") {
        return Ok(Outcome::Skip("no perl here".to_owned()));
    }
    let run = rig.run(&format!("perl -e '{PROGRAM}'"), b"")?;
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let numbers: Vec<i64> = said.split_whitespace().flat_map(str::parse).collect();
    let [ring, traced, child] = numbers[..] else {
        anyhow::bail!("perl said {said:?}");
    };
    let recording = rig.recording()?;
    let outcome = account::declared(&recording)?;
    if let Some(why) = rig.limited("io_uring, ptrace and datagrams") {
        return Ok(outcome.and(Outcome::Limit(why)));
    }
    for (name, works, words) in [
        ("io_uring", ring >= 0, "io_uring".to_owned()),
        ("ptrace", traced == 0, format!("traces process {child} ")),
        ("datagrams", true, "to 127.0.0.1:9:".to_owned()),
    ] {
        let markers = recording.of("marker").into_iter();
        let found: Vec<_> = markers.filter(|marker| marker["marker"] == name).collect();
        let told = found.iter().filter_map(|marker| marker["message"].as_str());
        let told = told.filter(|message| message.contains(&words)).count();
        ensure!(
            (found.len(), told) == (usize::from(works), usize::from(works)),
            "{name}: {found:?}, perl said {said:?}"
        );
    }
    Ok(outcome)
}

//! Whoever floods loses, if anybody: the session beside it loses nothing, and
//! what is recorded and what is declared make up what there was.
//! `tests/README.md` says which threat each test answers.

use std::{process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use auditty_tests::{
    SOON, Stage,
    client::{Auth, Client},
    store::{Recording, bytes_of},
    user::TestUser,
};

/// Recorded bytes of the terminal, each compared with what was shown, and
/// declared ones.
fn accounted(recording: &Recording, shown: &[u8]) -> Result<u64> {
    let mut recorded = 0;
    for event in recording.of("output") {
        let at = usize::try_from(event["offset"].as_u64().context("an offset")?)?;
        let bytes = bytes_of(event)?;
        assert!(shown[at..at + bytes.len()] == bytes, "at {at}");
        recorded += bytes.len() as u64;
    }
    let gaps = recording.of("gap").into_iter();
    let bytes = gaps.filter(|gap| gap["class"] == "output");
    let declared: u64 = bytes.filter_map(|gap| gap["bytes"].as_u64()).sum();
    assert_eq!(declared > 0, recording.session()["verdict"] == "lossy");
    Ok(recorded + declared)
}

fn of<'a>(recordings: &'a [Recording], user: &TestUser) -> Result<&'a Recording> {
    let mut all = recordings.iter();
    let found = all.find(|one| one.session()["login"]["user"] == user.name);
    found.with_context(|| format!("no recording of {}", user.name))
}

/// Runs a command in a terminal of another user while `quiet` happens.
fn beside<T>(
    stage: &Stage,
    flooder: &TestUser,
    flood: &str,
    quiet: impl FnOnce() -> Result<T>,
) -> Result<(Vec<u8>, T)> {
    let key = stage.sshd.authorize(flooder)?;
    let client = Client::new(&stage.sshd, flooder, Auth::Key(key));
    let flood = flood.to_owned();
    let flooding = thread::spawn(move || client.run_tty(&flood));
    let quiet = quiet()?;
    let flooded = flooding
        .join()
        .map_err(|_| anyhow!("the flood's thread died"))?;
    Ok((flooded?.stdout, quiet))
}

#[test]
fn a_flood_of_output_beside_a_typist() -> Result<()> {
    const LINES: usize = 200;
    let stage = Stage::new()?;
    let flooder = TestUser::create(&stage.scene)?;
    let (flooded, (typed, shown)) = beside(
        &stage,
        &flooder,
        "yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c 60000000",
        || {
            let mut typist = stage.client().shell()?;
            typist.ready()?;
            for number in 0..LINES {
                typist.command(&format!("echo line {number}"))?;
            }
            typist.line("exit")?;
            let typed = typist.typed();
            Ok((typed, typist.finish(SOON)?.1))
        },
    )?;
    let recordings = stage.recordings(2)?;
    let quiet = of(&recordings, &stage.user)?;
    quiet.assert_complete()?;
    assert_eq!(quiet.typed()?, typed);
    assert_eq!(quiet.bytes("output", "terminal")?, shown);
    let flood = of(&recordings, &flooder)?;
    flood.assert_sound()?;
    assert_eq!(accounted(flood, &flooded)?, flooded.len() as u64);
    stage.end()
}

#[test]
fn a_storm_of_execs_beside_a_few_commands() -> Result<()> {
    const STORM: u64 = 3000;
    const FEW: usize = 100;
    let stage = Stage::new()?;
    let flooder = TestUser::create(&stage.scene)?;
    let storm =
        format!("storm() {{ for i in $(seq {STORM}); do /bin/true; done; }}; storm & storm; wait");
    let few = format!("for i in $(seq {FEW}); do /bin/echo $i; done");
    let (_, ran) = beside(&stage, &flooder, &storm, || stage.run(&few))?;
    assert!(ran.status.success());

    let recordings = stage.recordings(2)?;
    let quiet = of(&recordings, &stage.user)?;
    quiet.assert_complete()?;
    let echoes = quiet
        .argvs()
        .into_iter()
        .filter(|argv| argv[0] == "/bin/echo");
    assert_eq!(echoes.count(), FEW);
    let flood = of(&recordings, &flooder)?;
    flood.assert_sound()?;
    let ran = flood
        .argvs()
        .into_iter()
        .filter(|argv| argv[0] == "/bin/true");
    let recorded = ran.count() as u64;
    let gaps = flood.of("gap").into_iter();
    let gaps = gaps.filter(|gap| gap["class"] == "exec");
    let declared: u64 = gaps.filter_map(|gap| gap["events"].as_u64()).sum();
    assert_eq!(recorded + declared, 2 * STORM);
    stage.end()
}

#[test]
fn a_fork_bomb() -> Result<()> {
    let mut stage = Stage::new()?;
    let bomber = TestUser::create(&stage.scene)?;
    // Bounded, for the sake of the machine. Only a signal ends it.
    let bomb = "ulimit -u 150; bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 60";
    let name = bomber.name.clone();
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_secs(4));
        // One round kills what it sees; its children may be born meanwhile.
        for _ in 0..50 {
            let killed = Command::new("pkill").args(["-KILL", "-u", &name]).status();
            if !killed.is_ok_and(|status| status.success()) {
                break;
            }
        }
    });
    let (_, ran) = beside(&stage, &bomber, bomb, || {
        stage.run("/bin/echo beside a bomb")
    })?;
    assert!(ran.status.success());
    killer
        .join()
        .map_err(|_| anyhow!("the killer's thread died"))?;

    assert!(stage.agent.process.ended()?.is_none(), "the agent lives");
    let recordings = stage.recordings(2)?;
    of(&recordings, &stage.user)?.assert_complete()?;
    of(&recordings, &bomber)?.assert_sound()?;
    stage.end()
}

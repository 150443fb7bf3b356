//! Programs that ran: what they were, and how they ended.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use auditty_tests::store::{Recording, words};

use crate::{account, outcome::Outcome, rig::Rig};

/// Exit codes and signals are those the shell saw.
pub fn exit_codes(rig: &mut Rig) -> Result<Outcome> {
    let run = rig.run(
        "sh -c 'exit 5' a; sh -c 'kill -9 $$' b; sh -c 'exit 0' c; exit 3",
        b"",
    )?;
    ensure!(
        run.status.code() == Some(3),
        "ssh ended with {}",
        run.status
    );
    let recording = rig.recording()?;
    let outcome = account::declared(&recording)?;
    for (name, key, expected) in [
        ("a", "exit_code", 5),
        ("b", "signal", 9),
        ("c", "exit_code", 0),
    ] {
        let exec = last_word(&recording, name).with_context(|| format!("no exec of {name}"))?;
        let exits = recording.of("exit");
        let exit = exits.into_iter().find(|exit| exit["exec_seq"] == exec);
        let exit = exit.with_context(|| format!("no exit of {name}"))?;
        ensure!(exit[key] == expected, "{name} ended with {exit}");
    }
    let code = &recording.session()["exit_code"];
    ensure!(code == 3, "the session's exit code is {code}");
    Ok(outcome)
}

/// `seq` of the exec whose last argument this is.
fn last_word(recording: &Recording, word: &str) -> Option<u64> {
    let execs = recording.of("exec").into_iter();
    let mut found =
        execs.filter(|exec| words(&exec["argv"]).last().is_some_and(|last| last == word));
    found.next()?["seq"].as_u64()
}

/// Arguments are those given, however long, whatever bytes.
pub fn argv(rig: &mut Rig) -> Result<Outcome> {
    let long: String = (1..20_000).map(|number| format!("{number},")).collect();
    let long = &long[..100_000];
    let remote = format!("/bin/true {long}; /bin/true '' 'two words' $'\\xff\\xfe' $'a\\nb'");
    let run = rig.run(&remote, b"")?;
    ensure!(run.status.success(), "ssh ended with {}", run.status);
    let recording = rig.recording()?;
    let outcome = account::declared(&recording)?;
    let argvs = recording.argvs();
    let found = argvs.iter().any(|argv| argv[..] == ["/bin/true", long]);
    ensure!(found, "the long argument is not recorded");
    let odd = recording
        .of("exec")
        .into_iter()
        .find(|exec| exec["argv_base64"].is_array());
    let odd = odd.context("no exact arguments")?;
    // `/bin/true`, nothing, `two words`, ff fe, a newline.
    let exact = ["L2Jpbi90cnVl", "", "dHdvIHdvcmRz", "//4=", "YQpi"];
    ensure!(
        words(&odd["argv_base64"]) == exact,
        "exact arguments are {}",
        odd["argv_base64"]
    );
    Ok(outcome)
}

/// Loops at a time, and runs in each.
const LOOPS: [usize; 2] = [6, 150];

/// Several loops of execs at once: each is recorded, and has its exit.
pub fn loops(rig: &mut Rig) -> Result<Outcome> {
    let [loops, runs] = LOOPS;
    let remote = format!(
        "for loop in $(seq {loops}); do (for i in $(seq {runs}); do /bin/true $loop-$i; done) & done; wait"
    );
    let run = rig.run(&remote, b"")?;
    ensure!(run.status.success(), "ssh ended with {}", run.status);
    let recording = rig.recording()?;
    let execs = recording.of("exec").into_iter();
    let trues: Vec<_> = execs
        .filter(|exec| exec["argv"][0] == "/bin/true")
        .collect();
    let names: BTreeSet<_> = trues
        .iter()
        .filter_map(|exec| exec["argv"][1].as_str())
        .collect();
    ensure!(names.len() == trues.len(), "a run is recorded twice");
    let outcome = account::count(&recording, trues.len(), loops * runs, 3)?;
    let seqs: BTreeSet<_> = trues
        .iter()
        .filter_map(|exec| exec["seq"].as_u64())
        .collect();
    let exits = recording.of("exit").into_iter();
    let ended = exits.filter(|exit| {
        exit["exec_seq"]
            .as_u64()
            .is_some_and(|seq| seqs.contains(&seq))
    });
    let exits = account::count(&recording, ended.count(), loops * runs, 3)?;
    Ok(outcome
        .and(exits)
        .and(Outcome::Pass(format!("{} runs", trues.len()))))
}

/// Processes that fork twice at the same time.
const FORKS: usize = 300;

/// A storm of forks: a program that runs two forks away from the shell, with no
/// parent left, is recorded all the same. The pipe ends with the last of them.
pub fn forks(rig: &mut Rig) -> Result<Outcome> {
    let remote =
        format!("(for i in $(seq {FORKS}); do ( (exec /bin/true fork-$i) & ) & done; wait) | cat");
    let run = rig.run(&remote, b"")?;
    ensure!(run.status.success(), "ssh ended with {}", run.status);
    let recording = rig.recording()?;
    let argvs = recording.argvs();
    let names = argvs.iter().filter_map(|argv| argv.get(1));
    let names: BTreeSet<_> = names.filter(|name| name.starts_with("fork-")).collect();
    // Two forks, an exec and two exits.
    account::count(&recording, names.len(), FORKS, 5)
}

//! Programs that were started: the same that strace saw.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use auditty_tests::{
    SOON, Stage,
    oracle::{Exec, Execs, Oracle},
    store::{Recording, words},
};

/// The execs of a recording by process.
fn recorded(recording: &Recording) -> Result<Execs> {
    let mut execs: Execs = BTreeMap::new();
    for event in recording.of("exec") {
        let pid = u32::try_from(event["pid"].as_u64().context("a pid")?)?;
        execs.entry(pid).or_default().push(Exec {
            filename: event["filename"].as_str().unwrap_or_default().to_owned(),
            argv: words(&event["argv"]),
        });
    }
    Ok(execs)
}

/// strace shows what was given to `execve`; of a script the kernel makes the
/// command line of its interpreter.
fn as_the_kernel_starts_it(mut exec: Exec) -> Exec {
    let script = fs::read(&exec.filename).unwrap_or_default();
    if let Some(line) = script.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).trim().to_owned();
        let interpreter = line.splitn(2, ' ').map(|word| word.trim().to_owned());
        let arguments = exec.argv.drain(..).skip(1);
        exec.argv = interpreter
            .chain([exec.filename.clone()])
            .chain(arguments)
            .collect();
    }
    exec
}

fn assert_same(recorded: &Execs, witnessed: Execs) {
    let mut witnessed: Execs = witnessed
        .into_iter()
        .map(|(pid, execs)| {
            (
                pid,
                execs.into_iter().map(as_the_kernel_starts_it).collect(),
            )
        })
        .collect();
    for (pid, execs) in recorded {
        assert_eq!(Some(execs), witnessed.remove(pid).as_ref(), "process {pid}");
    }
    assert!(witnessed.is_empty(), "not recorded: {witnessed:?}");
}

#[test]
fn an_interactive_login_equals_what_strace_saw() -> Result<()> {
    let stage = Stage::new()?;
    let oracle = Oracle::attach(&stage.scene, &stage.sshd)?;
    let mut typist = stage.client().shell()?;
    typist.ready()?;
    typist.command("/bin/echo $(head -c 100000 /dev/zero | tr '\\0' x) | wc -c")?;
    typist
        .command("printf '#!/bin/sh -e\\n/bin/echo from a script $1\\n' > s; chmod +x s; ./s x")?;
    typist.command("(setsid /bin/echo apart); env A=b /bin/echo 'with spaces' '' \"$(id -u)\"")?;
    typist.command("cd /tmp; seq 3 | xargs -n1 /bin/echo; exec 5</dev/null")?;
    typist.line("exit")?;
    typist.finish(SOON)?;

    let recording = stage.recording()?;
    recording.assert_complete()?;
    // The script is read in the home that is still there.
    let mut witnessed = oracle.execs_below(&["-bash"])?;
    for exec in witnessed.values_mut().flatten() {
        if exec.filename == "./s" {
            exec.argv = ["/bin/sh", "-e", "./s", "x"].map(str::to_owned).to_vec();
        }
    }
    assert_same(&recorded(&recording)?, witnessed);
    let long = recording
        .argvs()
        .into_iter()
        .flatten()
        .map(|word| word.len())
        .max();
    assert_eq!(long, Some(100_000));
    stage.end()
}

#[test]
fn a_burst_equals_what_strace_saw() -> Result<()> {
    let stage = Stage::new()?;
    let oracle = Oracle::attach(&stage.scene, &stage.sshd)?;
    let remote = "for i in $(seq 2000); do /bin/true $i; done";
    assert!(stage.run(remote)?.status.success());
    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_same(
        &recorded(&recording)?,
        oracle.execs_below(&["bash", "-c", remote])?,
    );
    stage.end()
}

#[test]
fn a_burst_at_full_speed() -> Result<()> {
    let stage = Stage::new()?;
    let remote = "for i in $(seq 2000); do /bin/true $i & done; wait";
    assert!(stage.run(remote)?.status.success());
    let recording = stage.recording()?;
    recording.assert_complete()?;
    let mut numbers: Vec<u32> = recording
        .argvs()
        .iter()
        .filter(|argv| argv[0] == "/bin/true")
        .map(|argv| argv[1].parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert!(
        numbers.iter().copied().eq(1..=2000),
        "{} of 2000",
        numbers.len()
    );
    let ended = recording
        .of("exit")
        .iter()
        .filter(|exit| exit["exec_seq"].is_u64())
        .count();
    assert_eq!(ended, recording.of("exec").len(), "every exec has its exit");
    stage.end()
}

#[test]
fn what_stands_beside_the_arguments() -> Result<()> {
    let stage = Stage::new()?;
    let remote =
        "cd /usr/share; sh -c 'exit 5'; sh -c 'kill -9 $$'; /bin/echo $'\\xff\\xfe' ; true";
    assert!(stage.run(remote)?.status.success());
    let recording = stage.recording()?;
    recording.assert_complete()?;

    let find = |program: &str, last: &str| {
        let execs = recording.of("exec").into_iter();
        let mut found = execs.filter(|exec| {
            let argv = words(&exec["argv"]);
            argv.first().is_some_and(|word| word == program)
                && argv.last().is_some_and(|word| word.starts_with(last))
        });
        found
            .next()
            .cloned()
            .with_context(|| format!("no {program} with {last}"))
    };
    let exit_of = |exec: &serde_json::Value| {
        let exits = recording.of("exit");
        let found = exits
            .into_iter()
            .find(|exit| exit["exec_seq"] == exec["seq"]);
        found.cloned().context("no exit")
    };
    let five = find("sh", "exit 5")?;
    assert_eq!(five["cwd"], "/usr/share");
    assert_eq!(five["uid"], stage.user.uid);
    assert_eq!(five["euid"], stage.user.uid);
    assert!(
        five["exe"]
            .as_str()
            .is_some_and(|exe| exe.ends_with("/dash")),
        "{}",
        five["exe"]
    );
    assert_eq!(exit_of(&five)?["exit_code"], 5);
    assert_eq!(exit_of(&find("sh", "kill -9")?)?["signal"], 9);
    let odd = find("/bin/echo", "")?;
    assert_eq!(odd["argv_base64"][1], "//4=");
    assert_eq!(odd["argv_bytes"], "/bin/echo".len() + 1 + 3);
    let leader = &recording.of("exec")[0];
    assert_eq!(five["parent_pid"], leader["pid"]);
    stage.end()
}

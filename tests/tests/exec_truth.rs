//! What is recorded of a program is what ran, whatever its user does about it.
//! `tests/README.md` says which threat each test answers.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use auditty_tests::{
    Stage,
    program::compile,
    scene::output,
    skip,
    store::{Recording, words},
};

/// Number of a witness to the argument it had.
type Witnesses = BTreeMap<u32, String>;

/// What `argv_race` printed: number, argument, and what stood there before.
fn witnessed(printed: &[u8]) -> Result<(Witnesses, usize)> {
    let mut witnesses = Witnesses::new();
    let mut changed = 0;
    for line in String::from_utf8_lossy(printed).lines() {
        let [number, argument, before] = line.split(' ').collect::<Vec<_>>()[..] else {
            anyhow::bail!("not a witness: {line}");
        };
        witnesses.insert(number.parse()?, argument.to_owned());
        changed += usize::from(argument != before);
    }
    Ok((witnesses, changed))
}

/// The witnesses of a recording.
fn recorded(recording: &Recording) -> Result<Witnesses> {
    let argvs = recording.argvs().into_iter();
    argvs
        .filter(|argv| argv[0] == "witness")
        .map(|argv| Ok((argv[1].parse()?, argv[2].clone())))
        .collect()
}

#[test]
fn arguments_that_another_process_keeps_changing() -> Result<()> {
    const EXECS: usize = 10_000;
    let stage = Stage::new()?;
    let race = compile(&stage.scene, "argv_race", &[])?;
    let printed = stage.run(&format!("{} race {EXECS}", race.display()))?;
    let (witnesses, changed) = witnessed(&printed.stdout)?;
    assert_eq!(witnesses.len(), EXECS);
    assert!(
        changed > EXECS / 100,
        "no race: {changed} of {EXECS} changed"
    );

    let recording = stage.recording()?;
    recording.assert_complete()?;
    let recorded = recorded(&recording)?;
    let wrong = witnesses
        .iter()
        .filter(|(number, argument)| recorded.get(number) != Some(argument))
        .count();
    assert_eq!((recorded.len(), wrong), (EXECS, 0));
    stage.end()
}

#[test]
fn arguments_in_a_page_that_was_never_touched() -> Result<()> {
    const EXECS: usize = 2_000;
    let stage = Stage::new()?;
    let race = compile(&stage.scene, "argv_race", &[])?;
    let printed = stage.run(&format!("{} absent {EXECS}", race.display()))?;
    let (witnesses, _) = witnessed(&printed.stdout)?;
    assert_eq!(witnesses.len(), EXECS);

    let recording = stage.recording()?;
    recording.assert_complete()?;
    assert_eq!(recorded(&recording)?, witnesses);
    stage.end()
}

#[test]
fn an_argument_that_is_made_up_inside_execve() -> Result<()> {
    const ALLOWED: &str = "/proc/sys/vm/unprivileged_userfaultfd";
    let Ok(before) = fs::read_to_string(ALLOWED) else {
        skip!("this kernel has no userfaultfd");
    };
    let stage = Stage::new()?;
    let before = before.trim();
    stage.scene.later(&format!("echo {before} > {ALLOWED}"))?;
    fs::write(ALLOWED, "1")?;
    let fault = compile(&stage.scene, "argv_fault", &["-pthread"])?;
    let printed = stage.run(&fault.display().to_string())?;
    assert_eq!(String::from_utf8(printed.stdout)?, "EVIL\n");

    let recording = stage.recording()?;
    recording.assert_complete()?;
    recording.exec(&["echo", "EVIL"])?;
    stage.end()
}

#[test]
fn more_arguments_than_are_stored() -> Result<()> {
    // 5 + 10 × 131072 + 10, terminators included.
    const LENGTH: u64 = 1_310_735;
    let stage = Stage::new()?;
    let remote = "python3 -c 'import os; \
                  os.execv(\"/bin/true\", [\"true\"] + [\"A\" * 131071] * 10 + [\"EVIL-TAIL\"])'";
    assert!(stage.run(remote)?.status.success());

    let recording = stage.recording()?;
    recording.assert_complete()?;
    let execs = recording.of("exec");
    let exec = execs
        .iter()
        .find(|exec| exec["argv"][0] == "true")
        .context("no exec of true")?;
    assert_eq!(exec["argv_bytes"], LENGTH);
    assert_eq!(exec["argv_truncated"], true);
    let argv = words(&exec["argv"]);
    let stored: usize = argv.iter().map(|word| word.len() + 1).sum();
    assert!(stored > 32 << 10, "only {stored} bytes are stored");
    assert!(
        argv[1..]
            .iter()
            .all(|word| word.bytes().all(|byte| byte == b'A')),
        "what is stored is the beginning"
    );
    assert_eq!(recording.exit_of(exec)?["exit_code"], 0);
    stage.end()
}

#[test]
fn no_arguments_at_all() -> Result<()> {
    let stage = Stage::new()?;
    let empty = compile(&stage.scene, "empty_argv", &[])?;
    assert!(
        stage
            .run(&format!("{}; true", empty.display()))?
            .status
            .success()
    );
    let recording = stage.recording()?;
    recording.assert_complete()?;
    // Since Linux 5.18 the kernel puts an empty string there.
    let execs = recording.of("exec");
    let exec = execs
        .iter()
        .find(|exec| exec["filename"] == "/bin/true")
        .context("no exec of /bin/true")?;
    assert!(
        ["[]", "[\"\"]"].contains(&exec["argv"].to_string().as_str()),
        "{exec}"
    );
    assert!(
        exec["exe"]
            .as_str()
            .is_some_and(|exe| exe.ends_with("/true"))
    );
    stage.end()
}

/// Runs a file by its descriptor, without a name.
const BY_DESCRIPTOR: &str = "\
import os, sys
content = open('/bin/echo', 'rb').read()
if sys.argv[1] == 'memory':
    file = os.memfd_create('innocent-name')
    os.write(file, content)
else:
    open('removed', 'wb').write(content)
    os.chmod('removed', 0o700)
    file = os.open('removed', os.O_RDONLY)
    os.unlink('removed')
os.execve(file, ['echo', 'from', sys.argv[1]], os.environ)
";

#[test]
fn programs_without_a_file_name() -> Result<()> {
    let stage = Stage::new()?;
    let script = stage.scene.write("by_descriptor.py", BY_DESCRIPTOR)?;
    let script = script.display();
    let remote = format!("python3 {script} memory; python3 {script} disk");
    let printed = stage.run(&remote)?.stdout;
    assert_eq!(String::from_utf8(printed)?, "from memory\nfrom disk\n");

    let recording = stage.recording()?;
    recording.assert_complete()?;
    let memory = recording.exec(&["echo", "from", "memory"])?;
    assert!(
        memory["exe"]
            .as_str()
            .is_some_and(|exe| exe.contains("memfd:innocent-name")),
        "{memory}"
    );
    let disk = recording.exec(&["echo", "from", "disk"])?;
    assert!(
        disk["exe"]
            .as_str()
            .is_some_and(|exe| exe.contains("/removed")),
        "{disk}"
    );
    assert_eq!(
        (&memory["exe_deleted"], &disk["exe_deleted"]),
        (&true.into(), &true.into())
    );
    stage.end()
}

#[test]
fn a_script_by_its_name_and_by_a_link() -> Result<()> {
    let stage = Stage::new()?;
    let remote = "printf '#!/bin/sh -e\\n/bin/echo script $1\\n' > s; chmod +x s; ln -s s link; \
                  ./s one; ./link two";
    assert!(stage.run(remote)?.status.success());
    let recording = stage.recording()?;
    recording.assert_complete()?;
    for (name, argument) in [("./s", "one"), ("./link", "two")] {
        let exec = recording.exec(&["/bin/sh", "-e", name, argument])?;
        assert_eq!(exec["filename"], name);
        assert!(
            exec["exe"]
                .as_str()
                .is_some_and(|exe| exe.ends_with("/dash")),
            "{exec}"
        );
        assert_eq!(exec["cwd"], stage.user.home.to_string_lossy().as_ref());
    }
    stage.end()
}

#[test]
fn a_file_with_an_interpreter_of_its_own() -> Result<()> {
    const FORMATS: &str = "/proc/sys/fs/binfmt_misc";
    let stage = Stage::new()?;
    if !Path::new(FORMATS).join("register").exists() {
        let mount = ["-t", "binfmt_misc", "none", FORMATS];
        if output(Command::new("mount").args(mount)).is_err() {
            skip!("binfmt_misc cannot be mounted");
        }
        stage.scene.later(&format!("umount {FORMATS}"))?;
    }
    let format = Path::new(FORMATS).join("auditty-test");
    stage
        .scene
        .later(&format!("echo -1 > {}", format.display()))?;
    fs::write(
        Path::new(FORMATS).join("register"),
        ":auditty-test:E::auditty-test::/bin/cat:",
    )?;
    let remote = "echo read by its interpreter > f.auditty-test; chmod +x f.auditty-test; \
                  ./f.auditty-test";
    let printed = stage.run(remote)?.stdout;
    assert_eq!(String::from_utf8(printed)?, "read by its interpreter\n");

    let recording = stage.recording()?;
    recording.assert_complete()?;
    let exec = recording.exec(&["/bin/cat", "./f.auditty-test"])?;
    assert_eq!(exec["filename"], "./f.auditty-test");
    assert!(
        exec["exe"]
            .as_str()
            .is_some_and(|exe| exe.ends_with("/cat")),
        "{exec}"
    );
    stage.end()
}

#[test]
fn programs_under_another_name() -> Result<()> {
    let stage = Stage::new()?;
    let remote = "/lib64/ld-linux-x86-64.so.2 /bin/echo loaded; \
                  (exec -a sshd /bin/sleep 0.01); \
                  ln -s /bin/busybox ls; ./ls -d /tmp; \
                  cp /bin/sleep sshd; ./sshd 0.02; ./sshd 0.03 < /dev/null; \
                  perl -e '$0 = \"sshd\"; exec \"/bin/echo\", \"renamed\"'";
    assert!(stage.run(remote)?.status.success());
    let recording = stage.recording()?;
    recording.assert_complete()?;
    let image = |argv: &[&str], end: &str| -> Result<()> {
        let exec = recording.exec(argv)?;
        let exe = exec["exe"].as_str().unwrap_or_default();
        ensure!(exe.ends_with(end), "{argv:?} is an image {exe}, not {end}");
        Ok(())
    };
    image(
        &["/lib64/ld-linux-x86-64.so.2", "/bin/echo", "loaded"],
        "/ld-linux-x86-64.so.2",
    )?;
    image(&["sshd", "0.01"], "/sleep")?;
    image(&["./ls", "-d", "/tmp"], "/busybox")?;
    image(&["./sshd", "0.02"], "/sshd")?;
    image(&["./sshd", "0.03"], "/sshd")?;
    image(&["/bin/echo", "renamed"], "/echo")?;
    stage.end()
}

#[test]
fn what_runs_without_an_exec_shows_on_the_terminal() -> Result<()> {
    let stage = Stage::new()?;
    let remote = "python3 - <<< 'print(open(\"/etc/passwd\").readline())'; \
                  bash -c 'read -r line < /etc/passwd; echo \"$line\"'; \
                  perl -e 'open F, \"/etc/passwd\"; print scalar <F>'";
    let shown = stage.client().run_tty(remote)?.stdout;
    let recording = stage.recording()?;
    recording.assert_complete()?;
    let root = fs::read_to_string("/etc/passwd")?;
    let line = root.lines().next().context("a first line")?;
    assert_eq!(recording.shown()?.matches(line).count(), 3);
    assert_eq!(recording.bytes("output", "terminal")?, shown);
    stage.end()
}

#[test]
fn a_command_that_is_decoded_and_run() -> Result<()> {
    let stage = Stage::new()?;
    // `/bin/echo hidden`, as nobody would read it.
    assert!(
        stage
            .run("echo L2Jpbi9lY2hvIGhpZGRlbgo= | base64 -d | sh")?
            .status
            .success()
    );
    let recording = stage.recording()?;
    recording.assert_complete()?;
    recording.exec(&["base64", "-d"])?;
    recording.exec(&["sh"])?;
    recording.exec(&["/bin/echo", "hidden"])?;
    stage.end()
}

#[test]
fn an_exec_that_failed_is_none() -> Result<()> {
    let stage = Stage::new()?;
    let remote = "for n in 1 2 3; do /nope$n; done; echo 'not a program' > text; chmod +x text; \
                  python3 -c 'import os; os.execv(\"./text\", [\"text\"])'; /etc/passwd; \
                  /bin/echo afterwards";
    assert!(stage.run(remote)?.status.success());
    let recording = stage.recording()?;
    recording.assert_complete()?;
    recording.exec(&["/bin/echo", "afterwards"])?;
    let tried = recording.argvs().into_iter().filter(|argv| {
        argv[0].starts_with("/nope") || argv[0] == "text" || argv[0] == "/etc/passwd"
    });
    assert_eq!(tried.count(), 0);
    let failed: Vec<_> = recording
        .of("file")
        .into_iter()
        .filter(|file| file["operation"] == "execute")
        .map(|file| (file["path"].as_str().unwrap_or_default(), &file["errno"]))
        .collect();
    let text = stage.user.home.join("text");
    let text = text.display().to_string();
    assert!(failed.contains(&(&text, &8.into())), "{failed:?}");
    assert!(failed.contains(&("/etc/passwd", &13.into())), "{failed:?}");
    let there = |(path, _): &(&str, _)| !path.starts_with("/nope");
    assert!(failed.iter().all(there), "{failed:?}");
    stage.end()
}

#[test]
fn a_program_of_32_bits() -> Result<()> {
    let stage = Stage::new()?;
    let flags = ["-m32", "-nostdlib", "-fno-pie", "-no-pie"];
    let program = compile(&stage.scene, "int80", &flags)?;
    let printed = stage.run(&program.display().to_string())?;
    if !printed.status.success() {
        skip!("this kernel runs no programs of 32 bits");
    }
    let recording = stage.recording()?;
    recording.assert_complete()?;
    let echo = recording.exec(&["echo", "from", "32", "bits"])?;
    let before = recording.exec(&[&program.display().to_string()])?;
    assert_eq!(echo["pid"], before["pid"]);
    stage.end()
}

#[test]
fn a_thread_that_executes_a_program() -> Result<()> {
    let stage = Stage::new()?;
    let remote = "python3 -c 'import os, threading; \
                  run = lambda: os.execv(\"/bin/echo\", [\"echo\", \"from\", \"a\", \"thread\"]); \
                  thread = threading.Thread(target=run); thread.start(); thread.join()'; true";
    assert!(stage.run(remote)?.status.success());
    let recording = stage.recording()?;
    recording.assert_complete()?;
    let echo = recording.exec(&["echo", "from", "a", "thread"])?;
    let python = recording
        .of("exec")
        .into_iter()
        .find(|exec| exec["argv"][0] == "python3");
    // The thread takes the process' id over; the process ends once.
    assert_eq!(Some(&echo["pid"]), python.map(|exec| &exec["pid"]));
    assert_eq!(recording.exit_of(echo)?["exit_code"], 0);
    let ends = recording
        .of("exit")
        .into_iter()
        .filter(|exit| exit["pid"] == echo["pid"]);
    assert_eq!(ends.count(), 1);
    stage.end()
}

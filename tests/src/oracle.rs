//! [`Oracle`]: the execs of a login as strace sees them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use crate::{SOON, process::Process, scene::Scene, sshd::Sshd, wait_for};

/// strace on a server and everything it forks.
#[derive(Debug)]
pub struct Oracle {
    process: Process,
    prefix: PathBuf,
}

/// An exec that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// What was given to `execve`.
    pub filename: String,
    /// Its arguments.
    pub argv: Vec<String>,
}

/// Execs by process, each in its order.
pub type Execs = BTreeMap<u32, Vec<Exec>>;

impl Oracle {
    /// Attaches to the listener; waits until it watches.
    pub fn attach(scene: &Scene, sshd: &Sshd) -> Result<Self> {
        let folder = scene.path("strace");
        fs::create_dir_all(&folder)?;
        let prefix = folder.join("trace");
        let mut command = Command::new("strace");
        // One file a process, all strings hexadecimal and whole.
        command.args(["-ff", "-xx", "-s", "4000000", "-e", "signal=none", "-e"]);
        command.args(["trace=execve,execveat,clone,clone3,fork,vfork", "-o"]);
        command
            .arg(&prefix)
            .args(["-p", &sshd.process.pid().to_string()]);
        let mut process = scene.spawn("strace", &mut command)?;
        process.wait_for_log("attached", SOON)?;
        Ok(Self { process, prefix })
    }

    /// Detaches, and gives the execs of the process that first ran
    /// `leader_argv` and of everything below it.
    pub fn execs_below(mut self, leader_argv: &[&str]) -> Result<Execs> {
        self.process.signal(Signal::SIGINT)?;
        self.process.wait(Duration::from_secs(60))?;
        let mut execs = Execs::new();
        let mut children: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        let folder = self.prefix.parent().context("a folder")?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let pid: u32 = path
                .extension()
                .unwrap_or_default()
                .to_string_lossy()
                .parse()?;
            let trace = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            for line in trace.lines() {
                if let Some(exec) = parse_exec(line)? {
                    execs.entry(pid).or_default().push(exec);
                } else if let Some(child) = parse_fork(line) {
                    children.entry(pid).or_default().insert(child);
                }
            }
        }
        let leader = *execs
            .iter()
            .find(|(_, execs)| execs.iter().any(|exec| exec.argv == leader_argv))
            .with_context(|| format!("strace saw no {leader_argv:?}"))?
            .0;
        // What it was before it became the user's program is sshd's business.
        if let Some(own) = execs.get_mut(&leader)
            && let Some(first) = own.iter().position(|exec| exec.argv == leader_argv)
        {
            own.drain(..first);
        }
        let mut below = BTreeSet::from([leader]);
        let mut todo = vec![leader];
        while let Some(pid) = todo.pop() {
            for child in children.get(&pid).into_iter().flatten() {
                if below.insert(*child) {
                    todo.push(*child);
                }
            }
        }
        execs.retain(|pid, _| below.contains(pid));
        Ok(execs)
    }
}

/// Waits until strace has let go of a process that is over.
pub fn wait_gone(pid: u32) -> Result<()> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    wait_for("the end of the process", SOON, || {
        Ok((!folder.exists()).then_some(()))
    })
}

/// `execve("\x2f…", ["\x61", …], 0x… /* 3 vars */) = 0`
fn parse_exec(line: &str) -> Result<Option<Exec>> {
    let Some(rest) = line
        .strip_prefix("execve(")
        .or_else(|| line.strip_prefix("execveat("))
    else {
        return Ok(None);
    };
    if !line.ends_with(" = 0") {
        return Ok(None);
    }
    let (filename, list) = rest
        .split_once(", [")
        .context("strace: no list of arguments")?;
    let (list, _) = list
        .split_once(']')
        .context("strace: the list does not end")?;
    ensure!(!list.contains("..."), "strace cut an argument");
    let filename = filename.rsplit(", ").next().unwrap_or_default();
    let argv = if list.is_empty() {
        Vec::new()
    } else {
        list.split(", ").map(unquote).collect::<Result<_>>()?
    };
    Ok(Some(Exec {
        filename: unquote(filename)?,
        argv,
    }))
}

/// The child's process id of `clone(…) = 123`.
fn parse_fork(line: &str) -> Option<u32> {
    let is_fork = ["clone", "fork", "vfork"]
        .iter()
        .any(|call| line.starts_with(call));
    let (_, result) = line.rsplit_once(" = ")?;
    result.parse().ok().filter(|_| is_fork)
}

fn unquote(word: &str) -> Result<String> {
    let hex = word
        .strip_prefix('"')
        .and_then(|word| word.strip_suffix('"'))
        .with_context(|| format!("strace: {word} is not a string"))?;
    let bytes = hex
        .split("\\x")
        .skip(1)
        .map(|byte| u8::from_str_radix(byte, 16).context("strace: not hexadecimal"))
        .collect::<Result<Vec<_>>>()?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_strace_are_understood() {
        let line = r#"execve("\x2f\x61", ["\x61", "\x62\x20\x63", ""], 0x7ffc /* 3 vars */) = 0"#;
        let exec = parse_exec(line).unwrap().unwrap();
        assert_eq!(exec.filename, "/a");
        assert_eq!(exec.argv, ["a", "b c", ""]);
        let failed = r#"execve("\x61", ["\x61"], 0x7ffc /* 3 vars */) = -1 ENOENT (No such file)"#;
        assert_eq!(parse_exec(failed).unwrap(), None);
        assert_eq!(
            parse_fork("clone(child_stack=NULL, flags=SIGCHLD) = 4242"),
            Some(4242)
        );
        assert_eq!(
            parse_fork("clone3({flags=0}, 88) = -1 EAGAIN (again)"),
            None
        );
    }
}

//! The agent by itself: memory, idle processor time, and the way of a keystroke
//! to the disk and to the store.

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use auditty_tests::{SOON, scene::files_below};
use nix::sys::signal::Signal;

use crate::{daemon::Daemon, keys::percentile, lines::sample, rig::Rig};

pub fn run(rig: &Rig) -> Result<()> {
    idle(rig)?;
    ways(rig)?;
    memory(rig)
}

/// So long after its start the agent does what it does all day; and so long after a
/// connection it expects another.
const LINGERS: Duration = Duration::from_secs(12);

/// Share of one processor, with nobody connected and with somebody who does
/// nothing.
fn idle(rig: &Rig) -> Result<()> {
    eprintln!("agent: idle for twice {} s", rig.size.idle.as_secs());
    let daemon = Daemon::start(rig, "auto")?;
    thread::sleep(LINGERS);
    let watch = |measure: &str| -> Result<()> {
        let (before, begun) = (daemon.cpu()?, Instant::now());
        thread::sleep(rig.size.idle);
        let used = daemon.cpu()?.saturating_sub(before);
        let part = used.as_secs_f64() / begun.elapsed().as_secs_f64();
        sample(measure, "auditty", 0, part * 100.0);
        Ok(())
    };
    watch("idle.nobody")?;
    let mut sessions = Sessions::default();
    sessions.open(rig, 1)?;
    thread::sleep(Duration::from_secs(1));
    watch("idle.somebody")?;
    sessions.close()?;
    daemon.stop()
}

/// After so long nothing of a session's beginning is open any more.
const IDLE: Duration = Duration::from_secs(15);

/// Resident memory, by number of open sessions.
fn memory(rig: &Rig) -> Result<()> {
    let daemon = Daemon::start(rig, "auto")?;
    thread::sleep(LINGERS);
    let look = |sessions: usize| -> Result<()> {
        let (all, own) = daemon.memory()?;
        let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        sample(&format!("memory.{sessions}"), "auditty", 0, megabytes(all));
        sample(
            &format!("memory.own.{sessions}"),
            "auditty",
            0,
            megabytes(own),
        );
        Ok(())
    };
    look(0)?;
    let mut sessions = Sessions::default();
    for count in rig.size.sessions {
        eprintln!("agent: memory with {count} sessions");
        sessions.open(rig, *count)?;
        thread::sleep(IDLE);
        look(*count)?;
    }
    sessions.close()?;
    daemon.stop()
}

/// Open logins that are idle, each with a terminal.
#[derive(Default)]
struct Sessions(Vec<Child>);

/// How many log in at the same time.
const AT_A_TIME: usize = 8;

impl Sessions {
    /// Opens more of them, until there are so many.
    fn open(&mut self, rig: &Rig, count: usize) -> Result<()> {
        while self.0.len() < count {
            let first = self.0.len();
            let more = AT_A_TIME.min(count - first);
            for _ in 0..more {
                self.0.push(rig.terminal("echo in; cat")?);
            }
            for client in self.0.iter_mut().skip(first) {
                let screen = client.stdout.as_mut().context("stdout is a pipe")?;
                screen.read_exact(&mut [0; 2]).context("a login failed")?;
            }
        }
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        for client in &mut self.0 {
            drop(client.stdin.take());
            client.kill()?;
            client.wait()?;
        }
        Ok(())
    }
}

/// How long until what is typed is on the disk, and until it is in the store.
/// strace is the witness of the first: when the file of the open chunk was next
/// written and then synced. What is in a chunk, and when that chunk appeared, is
/// the witness of the second.
fn ways(rig: &Rig) -> Result<()> {
    eprintln!(
        "agent: {} keystrokes to the disk and the store",
        rig.size.followed
    );
    let daemon = Daemon::start(rig, "auto")?;
    let trace = rig.scene.path("trace");
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-ttt",
        "-T",
        "-y",
        "-s",
        "0",
        "-e",
        "signal=none",
        "-e",
    ]);
    strace.args(["trace=write,pwrite64,fdatasync,fsync", "-o"]);
    strace.arg(&trace).args(["-p", &daemon.pid().to_string()]);
    let mut strace = rig.scene.spawn("strace", &mut strace)?;
    strace.wait_for_log("attached", SOON)?;
    let mut client = rig.terminal(&rig.work("echo"))?;
    let keyboard = client.stdin.take().context("stdin is a pipe")?;
    let typed = slowly(&mut client, keyboard, rig.size.followed)?;
    let folders = daemon.wait_finished(1)?;
    strace.signal(Signal::SIGINT)?;
    strace.wait(SOON)?;
    client.wait()?;
    let spool = daemon.spool();
    let mut durable = synced(&fs::read_to_string(&trace)?, &spool, &typed)?;
    report("durable", &mut durable);
    let mut stored = arrived(folders.first().context("a recording")?)?;
    report("stored", &mut stored);
    daemon.stop()
}

fn report(way: &str, times: &mut [Duration]) {
    times.sort();
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        sample(
            &format!("{way}.{name}"),
            "auditty",
            0,
            percentile(times, part) * 1e3,
        );
    }
}

/// Types a key now and then; since the epoch, when each was typed.
fn slowly(client: &mut Child, mut keyboard: ChildStdin, count: usize) -> Result<Vec<Duration>> {
    let screen = client.stdout.as_mut().context("stdout is a pipe")?;
    screen.read_exact(&mut [0; 3])?;
    let mut typed = Vec::new();
    for number in 0..count {
        // In no step with anything that happens every half second.
        thread::sleep(Duration::from_millis(170 + 37 * (number as u64 % 11)));
        typed.push(SystemTime::now().duration_since(UNIX_EPOCH)?);
        keyboard.write_all(b"x")?;
        screen.read_exact(&mut [0])?;
    }
    // What was typed last is synced too.
    thread::sleep(Duration::from_secs(2));
    keyboard.write_all(b"q")?;
    Ok(typed)
}

/// A byte that was typed is in what is written this much later.
const ON_ITS_WAY: Duration = Duration::from_millis(30);

/// From each key to the end of the first sync that began behind the first write,
/// both of the open chunk, that came `ON_ITS_WAY` later than the key: at most so
/// long.
fn synced(trace: &str, spool: &Path, typed: &[Duration]) -> Result<Vec<Duration>> {
    let sessions = spool.join("sessions").display().to_string();
    let (mut writes, mut syncs, mut begun) = (Vec::new(), Vec::new(), HashMap::new());
    for line in trace.lines() {
        // `PID TIME call(…) = RESULT <TAKEN>`, in two parts where threads overlap.
        let mut words = line.split_whitespace();
        let (Some(thread), Some(at), Some(call)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let at: f64 = at.parse()?;
        let of_chunk = line.contains(&sessions) && line.contains("/open.jsonl");
        if line.contains("<... fdatasync resumed>") {
            syncs.extend(begun.remove(thread).map(|begun| (begun, at)));
        } else if of_chunk && call.starts_with("write(") {
            writes.push(at);
        } else if of_chunk && call.starts_with("fdatasync(") {
            let taken = line
                .rsplit_once('<')
                .and_then(|(_, end)| end.strip_suffix('>'));
            match taken.and_then(|taken| taken.parse::<f64>().ok()) {
                Some(taken) => syncs.push((at, at + taken)),
                None => drop(begun.insert(thread.to_owned(), at)),
            }
        }
    }
    let mut times = Vec::new();
    for key in typed.iter().map(Duration::as_secs_f64) {
        let mut writes = writes.iter();
        let written = writes.find(|at| **at >= key + ON_ITS_WAY.as_secs_f64());
        let written = written.context("nothing was written behind a key")?;
        let sync = syncs.iter().find(|(begun, _)| begun >= written);
        let (_, until) = sync.context("nothing was synced behind a key")?;
        times.push(Duration::from_secs_f64(until - key));
    }
    Ok(times)
}

/// From each event of a terminal to when the chunk that holds it was stored.
fn arrived(recording: &Path) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for chunk in files_below(recording)? {
        if !chunk.to_string_lossy().ends_with(".jsonl.zst") {
            continue;
        }
        let inode = fs::metadata(&chunk)?;
        let stored = Duration::new(
            u64::try_from(inode.ctime())?,
            u32::try_from(inode.ctime_nsec())?,
        );
        let mut date = Command::new("sh");
        date.arg("-c").arg(
            "zstd -dcq \"$0\" | jq -r 'select(.kind == \"input\") | .time' | date -u -f - +%s.%N",
        );
        let output = date.arg(&chunk).stderr(Stdio::inherit()).output()?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let (seconds, nanoseconds) = line.split_once('.').context("a time")?;
            let event = Duration::new(seconds.parse()?, nanoseconds.parse()?);
            times.push(stored.saturating_sub(event));
        }
    }
    ensure!(!times.is_empty(), "no input in {}", recording.display());
    Ok(times)
}

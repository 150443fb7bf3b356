//! Power loss: a guest records real sessions to a disk, and loses its power.
//!
//! The disk is a file with ext4. What the guest has not flushed is in its own
//! memory, and goes with it. At random moments the emulator is stopped (SIGSTOP) and
//! the file copied: the copy is what SIGKILL at this moment leaves. The last cut is
//! a SIGKILL. Then each copy is mounted here, and the test `power` of the spool
//! recovers, delivers and verifies what is on it, and compares it with what the
//! clients had got, line by line with its age at the cut. While the emulator is
//! stopped, nothing becomes older.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Error, Result, bail, ensure};

use super::{
    guest,
    kernels::{self, Kernel},
    machine::{self, Plan},
};
use crate::{build, report::Report, setup, workspace};

/// The kernel that is cut off: one that is in use.
const KERNEL: &str = "6.1-none";

/// To the first lines of all sessions.
const READY: Duration = Duration::from_secs(180);

/// From one cut to the next, milliseconds: some syncs, a chunk now and then.
const BETWEEN: std::ops::Range<u64> = 100..500;

/// What may be lost, in the guest's time: what is younger when the power goes.
const MAY_BE_LOST: Duration = Duration::from_secs(1);

const DISK_BYTES: u64 = 128 << 20;

/// Cuts the power so many times while one guest runs, boots again and goes on with
/// what the last cut has left, so many times.
pub fn run(report: &mut Report, boots: u32, cuts: u32) {
    let name = "power loss";
    println!("\n== {name}: {boots} guests, {cuts} cuts each");
    if !setup::emulator_present() {
        return report.skip(name, setup::NO_EMULATOR);
    }
    match cut_all(boots, cuts).and_then(|folder| recover(report, &folder)) {
        Ok(()) => {}
        Err(error) => report.fail(name, &error),
    }
}

fn cut_all(boots: u32, cuts: u32) -> Result<PathBuf> {
    build::rig()?;
    let folder = super::folder()?.join("power");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).context("a folder for the disks")?;
    // In memory: its flushes then wait for the guest alone, and the emulator's death
    // takes no more of it than of a file elsewhere.
    let memory = in_memory()?;
    let disk = memory.0.join("disk.img");
    File::create(&disk)
        .and_then(|file| file.set_len(DISK_BYTES))
        .context("making the disk")?;
    workspace::run(
        Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk),
        "make a file system",
    )?;
    let kernel = kernels::parse(KERNEL).map_err(Error::msg)?;
    let initramfs = guest::build(&kernel.userland, &guest::Over::default())?;
    let mut seen = Seen::default();
    for boot in 0..boots {
        let mut guest = Guest::boot(kernel, &initramfs, &disk, boot)?;
        let cut = guest.cut(&mut seen, &folder, cuts);
        drop(guest);
        cut.with_context(|| format!("boot {boot}"))?;
        println!("boot {boot}: {cuts} cuts, the last by SIGKILL");
    }
    let _ = fs::remove_file(initramfs);
    Ok(folder)
}

/// A folder in memory; deleted when dropped.
struct Memory(PathBuf);

fn in_memory() -> Result<Memory> {
    let path = PathBuf::from(format!("/dev/shm/auditty-power-{}", std::process::id()));
    fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
    Ok(Memory(path))
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What clients have got, by session: each line and when it came, in the guest's time.
#[derive(Default)]
struct Seen(BTreeMap<String, Vec<(Duration, u32)>>);

impl Seen {
    fn take(&mut self, line: &str, now: Duration) {
        let words: Vec<_> = line.split(' ').collect();
        if let ["VM", "saw", name, number] = words[..]
            && let Ok(number) = number.parse()
        {
            let lines = self.0.entry(name.to_owned()).or_default();
            lines.push((now, number));
        }
    }

    /// The power is gone at `now`, and the next guest's time begins: of what was too
    /// young then nothing is promised later.
    fn end_boot(&mut self, now: Duration) {
        for lines in self.0.values_mut() {
            lines.retain(|(at, _)| now.saturating_sub(*at) > MAY_BE_LOST);
            for (at, _) in lines {
                *at = Duration::ZERO;
            }
        }
    }

    /// `<session> <line>:<its age, ms> …`, for a cut at `now`.
    fn expectation(&self, now: Duration) -> String {
        let mut text = String::new();
        for (name, lines) in &self.0 {
            text.push_str(name);
            for (at, number) in lines {
                let age = now.saturating_sub(*at).as_millis();
                let _ = write!(text, " {number}:{age}");
            }
            text.push('\n');
        }
        text
    }
}

struct Guest {
    booted: Instant,
    /// How long it has been stopped since.
    stopped: Duration,
    emulator: Child,
    lines: Receiver<String>,
    disk: PathBuf,
    log: File,
}

impl Guest {
    fn boot(kernel: &Kernel, initramfs: &Path, disk: &Path, boot: u32) -> Result<Self> {
        let plan = Plan {
            mode: "default".to_owned(),
            tests: Vec::new(),
        };
        let mut command = machine::command(kernel, &kernel.image()?, initramfs, &plan);
        let drive = format!(
            "file={},format=raw,if=none,id=disk,cache=writeback",
            disk.display()
        );
        command.args(["-drive", &drive, "-device", "nvme,serial=1,drive=disk"]);
        // Behind what the kernel was told already: the last argument is its own.
        let append = format!("{} vm_power={boot}", machine::parameters(kernel, &plan));
        command.arg("-append").arg(append);
        let mut emulator = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("qemu-system-x86_64 did not start")?;
        let output = emulator
            .stdout
            .take()
            .context("the emulator has no output")?;
        let log = super::folder()?.join("console-power.log");
        Ok(Self {
            booted: Instant::now(),
            stopped: Duration::ZERO,
            emulator,
            lines: machine::lines_of(output),
            disk: disk.to_owned(),
            log: File::create(log).context("the console's log")?,
        })
    }

    /// How long it has run.
    fn now(&self) -> Duration {
        self.booted.elapsed().saturating_sub(self.stopped)
    }

    /// Cuts the power again and again; the last time it stays off.
    fn cut(&mut self, seen: &mut Seen, folder: &Path, cuts: u32) -> Result<()> {
        let ready = Instant::now() + READY;
        while !self.listen(seen, ready)? {
            ensure!(
                Instant::now() < ready,
                "no sessions in time; see target/vm/console-power.log"
            );
        }
        // What is too young to be promised becomes old enough.
        self.listen_until(seen, Instant::now() + MAY_BE_LOST)?;
        let mut random = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        for cut in 1..=cuts {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let pause = BETWEEN.start + (random >> 33) % (BETWEEN.end - BETWEEN.start);
            self.listen_until(seen, Instant::now() + Duration::from_millis(pause))?;
            let (now, stop) = (self.now(), Instant::now());
            match cut == cuts {
                true => self.kill()?,
                false => self.signal("STOP")?,
            }
            let expected = seen.expectation(now);
            // Two files of each cut.
            let number = fs::read_dir(folder)?.count() / 2;
            let copy = folder.join(format!("cut-{number:04}.img"));
            workspace::run(
                Command::new("cp")
                    .arg("--sparse=always")
                    .arg(&self.disk)
                    .arg(&copy),
                "copy the disk",
            )?;
            fs::write(copy.with_extension("expected"), expected)?;
            match cut == cuts {
                true => seen.end_boot(now),
                false => {
                    self.signal("CONT")?;
                    self.stopped += stop.elapsed();
                }
            }
        }
        Ok(())
    }

    /// Takes a line; whether every session has begun.
    fn listen(&mut self, seen: &mut Seen, until: Instant) -> Result<bool> {
        match self
            .lines
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            Ok(line) => {
                writeln!(self.log, "{line}").context("the console's log")?;
                seen.take(&line, self.now());
                Ok(line == "VM power ready")
            }
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the guest ended by itself; see target/vm/console-power.log")
            }
        }
    }

    fn listen_until(&mut self, seen: &mut Seen, until: Instant) -> Result<()> {
        while Instant::now() < until {
            self.listen(seen, until)?;
        }
        Ok(())
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.emulator.id().to_string();
        workspace::run(
            Command::new("kill").args(["-s", signal, &pid]),
            "send the emulator a signal",
        )?;
        // It stops when every thread has left the kernel.
        thread::sleep(Duration::from_millis(20));
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.emulator.kill().context("killing the emulator")?;
        self.emulator.wait().context("waiting for the emulator")?;
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Looks at every disk.
fn recover(report: &mut Report, folder: &Path) -> Result<()> {
    let mut test = workspace::cargo()?;
    test.args(["test", "--release", "--locked", "--test", "spool", "--"]);
    test.args(["--ignored", "--exact", "power::what_a_power_loss_leaves"]);
    test.arg("--nocapture");
    test.env("AUDITTY_TEST_POWER", folder);
    report.tests("power loss", &mut test)
}

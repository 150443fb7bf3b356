//! [`Traces`]: everywhere the agent could have left something.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{agent::Agent, client::find, scene::files_below};

/// An agent's files, compressed ones unpacked, its log and its memory.
#[derive(Debug)]
pub struct Traces {
    /// Store, spool, database, state.
    folder: PathBuf,
    log: PathBuf,
    pid: u32,
}

impl Traces {
    /// Those of this agent, while it runs.
    pub fn of(agent: &Agent) -> Self {
        Self {
            folder: agent.folder().to_owned(),
            log: agent.process.log_file().to_owned(),
            pid: agent.process.pid(),
        }
    }

    /// Files of an agent that hold `word`; it need not run.
    pub fn on_disk(agent: &Agent, word: &str) -> Result<Vec<String>> {
        holders(agent.folder(), word)
    }

    /// Everything that holds `word`.
    pub fn find(&self, word: &str) -> Result<Vec<String>> {
        let mut found = holders(&self.folder, word)?;
        if find(&fs::read(&self.log)?, word.as_bytes()).is_some() {
            found.push("the agent's log".to_owned());
        }
        if self.in_memory(word)? {
            found.push("the agent's memory".to_owned());
        }
        Ok(found)
    }

    /// Whether `word` is anywhere in the agent's memory, its ring buffers
    /// included.
    pub fn in_memory(&self, word: &str) -> Result<bool> {
        const STEP: u64 = 1 << 20;
        let memory = File::open(format!("/proc/{}/mem", self.pid))?;
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid))?;
        let mut buffer = vec![0; STEP as usize + word.len()];
        for line in maps.lines() {
            let (range, rest) = line.split_once(' ').context("a line of maps")?;
            if !rest.starts_with('r') {
                continue;
            }
            let (start, end) = range.split_once('-').context("a range")?;
            let (start, end) = (
                u64::from_str_radix(start, 16)?,
                u64::from_str_radix(end, 16)?,
            );
            let mut at = start;
            while at < end {
                // Steps overlap by a word. Some mappings cannot be read.
                let length = (end - at).min(buffer.len() as u64) as usize;
                let piece = &mut buffer[..length];
                let read = memory.read_at(piece, at).unwrap_or(0);
                if find(&piece[..read], word.as_bytes()).is_some() {
                    return Ok(true);
                }
                at += STEP;
            }
        }
        Ok(false)
    }
}

/// Every file below `folder`, compressed ones unpacked, that holds `word`.
fn holders(folder: &Path, word: &str) -> Result<Vec<String>> {
    let mut holders = Vec::new();
    for file in files_below(folder)? {
        let raw = fs::read(&file).unwrap_or_default();
        // An open chunk of the spool is cut: what comes out until there counts.
        let unpacked = Command::new("zstd")
            .arg("-dcqf")
            .arg(&file)
            .output()?
            .stdout;
        let both = [raw, unpacked].concat();
        if find(&both, word.as_bytes()).is_some() {
            holders.push(file.display().to_string());
        }
    }
    Ok(holders)
}

//! What the kernel says of itself and of the agent's programs.

use std::{collections::BTreeMap, fs};

use anyhow::{Result, ensure};
use auditty_tests::agent;

use crate::{
    outcome::Outcome,
    rig::{Rig, tail},
};

/// Instructions that the verifier may walk in one program. It gives up at a
/// million, and the count differs between kernels by a factor of several.
const BUDGET: u64 = 50_000;

/// Why `auditty-agent check` says that it cannot capture.
pub fn refusal(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.contains("PROBLEM"))?;
    Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// `auditty-agent check` is content, and no program is too much for a verifier.
pub fn check(rig: &mut Rig) -> Result<Outcome> {
    let check = agent::command(rig.agent.folder(), &[])
        .arg("check")
        .output()?;
    let said = String::from_utf8_lossy(&check.stdout);
    ensure!(
        check.status.success(),
        "check ended with {}: {}",
        check.status,
        tail(&said, 3)
    );
    let programs = verified(rig.agent_pid());
    if programs.is_empty() {
        return Ok(Outcome::Pass(
            "this kernel does not tell verified instructions".to_owned(),
        ));
    }
    let list = programs
        .iter()
        .map(|(name, count)| format!("{name}={count}"));
    println!("VM programs {}", list.collect::<Vec<_>>().join(" "));
    for (name, count) in &programs {
        ensure!(
            *count <= BUDGET,
            "{name}: {count} verified instructions, {BUDGET} are the budget"
        );
    }
    let most = programs.iter().max_by_key(|(_, count)| **count);
    let most = most.map(|(name, count)| format!("most verified instructions: {name}, {count}"));
    Ok(Outcome::Pass(most.unwrap_or_default()))
}

/// Runs of the agent's kernel programs that the kernel left out so far.
pub fn missed_runs(agent: u32) -> u64 {
    let programs = programs(agent);
    let missed = programs
        .iter()
        .filter_map(|fields| fields.get("recursion_misses")?.parse::<u64>().ok());
    missed.sum::<u64>()
}

/// Verified instructions by program.
fn verified(agent: u32) -> BTreeMap<String, u64> {
    let names = names();
    let mut counts = BTreeMap::new();
    for fields in programs(agent) {
        let Some(tag) = fields.get("prog_tag") else {
            continue;
        };
        let name = names.get(tag).unwrap_or(tag).clone();
        if let Some(count) = fields
            .get("verified_insns")
            .and_then(|count| count.parse().ok())
        {
            counts.insert(name, count);
        }
    }
    counts
}

/// The fields of every program that the agent holds, each once.
fn programs(agent: u32) -> Vec<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let Ok(list) = fs::read_dir(format!("/proc/{agent}/fdinfo")) else {
        return Vec::new();
    };
    for entry in list.flatten() {
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        let fields: BTreeMap<_, _> = info
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect();
        // Links tell of their program as well, without its counters.
        if fields.contains_key("prog_type")
            && let Some(id) = fields.get("prog_id")
        {
            found.insert(id.clone(), fields);
        }
    }
    found.into_values().collect()
}

/// Names of programs by tag: `ffffffffc0001234 t bpf_prog_<tag>_<name> [bpf]`.
fn names() -> BTreeMap<String, String> {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let names = symbols.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" bpf_prog_")?;
        let (tag, name) = rest.split_whitespace().next()?.split_once('_')?;
        Some((tag.to_owned(), name.to_owned()))
    });
    names.collect()
}

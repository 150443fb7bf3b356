//! What the agent is meant to reach, and whether it does.

use super::{
    measures::Against::{Difference, Nothing, Ratio},
    sheet::Sheet,
    statistics::{Part, Short, Spread},
};

/// A goal beside what was measured.
pub struct Goal {
    /// What is meant to be.
    pub text: String,
    /// What is, with its spread.
    pub measured: String,
    /// Whether that is as it is meant to be, and how far from it.
    pub verdict: String,
    /// `None` when nothing of it was measured.
    pub met: Option<bool>,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn new(text: &str, measured: Option<Spread>, unit: &str, bound: Bound) -> Self {
        let Some(spread) = measured else {
            return Self {
                text: text.to_owned(),
                measured: "–".to_owned(),
                verdict: "not measured here".to_owned(),
                met: None,
            };
        };
        let (met, missed_by) = match bound {
            Bound::AtLeast(bound) => (spread.median >= bound, bound - spread.median),
            Bound::AtMost(bound) => (spread.median <= bound, spread.median - bound),
        };
        let verdict = match met {
            true => "met".to_owned(),
            false => format!("missed by {}{unit}", Short(missed_by)),
        };
        Self {
            text: text.to_owned(),
            measured: format!("{spread}{unit}"),
            verdict,
            met: Some(met),
        }
    }
}

const PEERS: [&str; 4] = ["script", "tlog", "sudo", "asciinema"];

/// Recordings of ordinary work; the largest counts.
const ORDINARY: [&str; 4] = [
    "storage.ls",
    "storage.apt",
    "storage.sources",
    "storage.vim",
];

const NOISE: [&str; 2] = ["storage.base64", "storage.raw"];

/// Each goal, with what was measured.
pub fn judge(sheet: &Sheet) -> Vec<Goal> {
    let inside = |id: &str, against| sheet.number(id, against, "none", "auditty");
    let plain = |id: &str| sheet.number(id, Nothing, "", "auditty");
    let mut goals = vec![
        Goal::new(
            "text through ssh: at least 0.97 of the speed without a recorder",
            inside("text.speed", Ratio),
            "",
            Bound::AtLeast(0.97),
        ),
        Goal::new(
            "small writes through ssh: the same",
            inside("small.speed", Ratio),
            "",
            Bound::AtLeast(0.97),
        ),
        ahead(sheet),
        Goal::new(
            "keystroke: at most 1 ms more at p99",
            inside("key.p99", Difference),
            " µs",
            Bound::AtMost(1000.0),
        ),
        Goal::new(
            "programs started in a session: at least 0.95 of the rate",
            inside("exec.rate", Ratio),
            "",
            Bound::AtLeast(0.95),
        ),
    ];
    goals.extend(outside(sheet));
    goals.push(worst(
        sheet,
        "storage, ordinary work: at most 0.25 bytes per byte, the worst",
        &ORDINARY,
        0.25,
    ));
    goals.push(worst(
        sheet,
        "storage, incompressible: at most 1.1 bytes per byte, the worst",
        &NOISE,
        1.1,
    ));
    for sessions in [0_u32, 20, 100, 1000] {
        let bound = 64.0 + f64::from(sessions) / 16.0;
        let text = format!("memory, {sessions} sessions: at most 64 MiB and 64 KiB for each");
        let measured = plain(&format!("memory.{sessions}"));
        if measured.is_some() || matches!(sessions, 0 | 100) {
            goals.push(Goal::new(&text, measured, " MiB", Bound::AtMost(bound)));
        }
    }
    goals.push(Goal::new(
        "idle, nobody connected: less than 0.2 % of a processor",
        plain("idle.nobody"),
        " %",
        Bound::AtMost(0.2),
    ));
    goals.push(Goal::new(
        "idle, somebody connected: the same",
        plain("idle.somebody"),
        " %",
        Bound::AtMost(0.2),
    ));
    for (text, id) in [
        ("text: nothing lost", "text.complete"),
        ("small writes: nothing lost", "small.complete"),
        ("programs: nothing lost", "exec.complete"),
        (
            "storm of programs: recorded or declared lost",
            "storm.accounted",
        ),
    ] {
        goals.push(whole(sheet, text, id));
    }
    goals
}

/// Nothing may be missing in any round.
fn whole(sheet: &Sheet, text: &str, id: &str) -> Goal {
    let Some(least) = sheet.least(id, "auditty") else {
        return Goal::new(text, None, "", Bound::AtLeast(1.0));
    };
    let met = least >= 1.0;
    let verdict = if met { "met" } else { "missed" };
    Goal {
        text: text.to_owned(),
        measured: Part(least).to_string(),
        verdict: verdict.to_owned(),
        met: Some(met),
    }
}

/// Faster than every peer, in the same rounds.
fn ahead(sheet: &Sheet) -> Goal {
    let ratio = |peer: &str| sheet.number("text.speed", Ratio, peer, "auditty");
    let ratios = PEERS.iter().filter_map(|peer| Some((*peer, ratio(peer)?)));
    let nearest = ratios.min_by(|(_, one), (_, other)| one.median.total_cmp(&other.median));
    let text = match nearest {
        Some((peer, _)) => {
            format!("text through ssh: faster than every peer; the fastest is {peer}")
        }
        None => "text through ssh: faster than every peer".to_owned(),
    };
    Goal::new(
        &text,
        nearest.map(|(_, ratio)| ratio),
        "",
        Bound::AtLeast(1.0),
    )
}

/// The largest of these.
fn worst(sheet: &Sheet, text: &str, ids: &[&str], bound: f64) -> Goal {
    let numbers = ids
        .iter()
        .filter_map(|id| sheet.number(id, Nothing, "", "auditty"));
    let largest = numbers.max_by(|one, other| one.median.total_cmp(&other.median));
    Goal::new(text, largest, "", Bound::AtMost(bound))
}

/// What those pay who are in no session.
fn outside(sheet: &Sheet) -> Vec<Goal> {
    let against = |id: &str, against, state: &str| sheet.number(id, against, "no agent", state);
    let mut goals = Vec::new();
    for (state, id, place) in [
        (
            "kernel-function, nobody connected",
            "guest.read",
            ", emulated",
        ),
        ("kernel-function, somebody idle", "guest.read", ", emulated"),
        ("tracepoint, nobody connected", "call.read", ""),
        ("uprobe, somebody idle", "call.read", ""),
    ] {
        // At most 1/0.99 of the time.
        let text = format!("system calls, {state}{place}: at least 0.99 of the speed");
        let slower = against(id, Ratio, state);
        let speed = slower.map(|ratio| Spread {
            median: 1.0 / ratio.median,
            low: 1.0 / ratio.high,
            high: 1.0 / ratio.low,
            count: ratio.count,
        });
        goals.push(Goal::new(&text, speed, "", Bound::AtLeast(0.99)));
    }
    let idle = "tracepoint, somebody idle";
    for call in ["getppid", "read", "write"] {
        let id = format!("call.{call}");
        let mut text = format!("{call}, {idle}: at most 110 ns more");
        if let Some(floor) = against(&id, Difference, "two empty programs") {
            text += &format!(" (two empty programs: {} ns)", Short(floor.median));
        }
        let added = against(&id, Difference, idle);
        goals.push(Goal::new(&text, added, " ns", Bound::AtMost(110.0)));
    }
    for program in ["find", "tar", "python", "gcc"] {
        let text = format!("{program}, {idle}: at most 5 % more processor time");
        let ratio = against(&format!("program.{program}"), Ratio, idle);
        goals.push(Goal::new(&text, ratio, "", Bound::AtMost(1.05)));
    }
    goals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal<'a>(goals: &'a [Goal], text: &str) -> &'a Goal {
        goals
            .iter()
            .find(|goal| goal.text.starts_with(text))
            .unwrap()
    }

    #[test]
    fn goals_are_met_missed_or_not_measured() {
        let mut sheet = Sheet::default();
        sheet.read(
            "sample\ttext.speed\tnone\t0\t100\nsample\ttext.speed\tauditty\t0\t95\n\
             sample\ttext.speed\tscript\t0\t90\nsample\ttext.speed\ttlog\t0\t50\n\
             sample\tkey.p99\tnone\t0\t300\nsample\tkey.p99\tauditty\t0\t400\n\
             sample\ttext.complete\tauditty\t0\t1\nsample\ttext.complete\tauditty\t1\t0.5\n",
        );
        let goals = judge(&sheet);
        let text = goal(&goals, "text through ssh: at least");
        assert_eq!(
            (text.met, text.verdict.as_str()),
            (Some(false), "missed by 0.020")
        );
        let ahead = goal(&goals, "text through ssh: faster");
        assert!(ahead.text.ends_with("the fastest is script"));
        assert_eq!(ahead.met, Some(true));
        assert_eq!(goal(&goals, "keystroke").measured, "100 µs");
        // One round that lost something is enough.
        assert_eq!(goal(&goals, "text: nothing lost").met, Some(false));
        let memory = goal(&goals, "memory, 100");
        assert_eq!((memory.met, memory.measured.as_str()), (None, "–"));
    }

    #[test]
    fn the_kernels_own_part_stands_beside_the_goal() {
        let mut sheet = Sheet::default();
        sheet.read(
            "sample\tcall.read\tno agent\t0\t200\nsample\tcall.read\ttwo empty programs\t0\t380\n\
             sample\tcall.read\ttracepoint, somebody idle\t0\t400\n",
        );
        let goals = judge(&sheet);
        let read = goal(&goals, "read, tracepoint");
        assert!(
            read.text.ends_with("(two empty programs: 180 ns)"),
            "{}",
            read.text
        );
        assert_eq!((read.met, read.measured.as_str()), (Some(false), "200 ns"));
    }

    #[test]
    fn the_worst_counts() {
        let mut sheet = Sheet::default();
        sheet.read("sample\tstorage.ls\tauditty\t0\t0.1\nsample\tstorage.vim\tauditty\t0\t0.75\n");
        let goals = judge(&sheet);
        let storage = goal(&goals, "storage, ordinary");
        assert_eq!(
            (storage.measured.as_str(), storage.verdict.as_str()),
            ("0.75", "missed by 0.50")
        );
    }
}

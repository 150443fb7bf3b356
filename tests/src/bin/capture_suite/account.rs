//! Books: what is recorded and what is declared lost are together what the
//! witness saw.

use anyhow::{Context as _, Result, bail, ensure};
use auditty_tests::store::{Recording, bytes_of};
use serde_json::Value;

use crate::outcome::Outcome;

/// One direction of a stream.
#[derive(Clone, Copy)]
pub struct Stream {
    /// `output` or `input`.
    pub kind: &'static str,
    /// `terminal`, `stdin`, `stdout`, `stderr`.
    pub name: &'static str,
    /// Number of the terminal, 0 for the client's own.
    pub terminal: u64,
}

/// What the client's terminal showed.
pub const SHOWN: Stream = Stream {
    kind: "output",
    name: "terminal",
    terminal: 0,
};

/// The recording is sound; and what it says is missing.
pub fn declared(recording: &Recording) -> Result<Outcome> {
    recording.assert_sound()?;
    let gaps = recording.of("gap");
    let verdict = recording.session()["verdict"].as_str().unwrap_or_default();
    match verdict {
        "complete" => {
            ensure!(gaps.is_empty(), "complete with gaps: {gaps:?}");
            Ok(Outcome::pass())
        }
        "lossy" | "interrupted" => {
            ensure!(!gaps.is_empty(), "{verdict} without a gap");
            Ok(Outcome::Limit(describe(&gaps)))
        }
        other => bail!("the verdict is {other}"),
    }
}

/// How much of a session nobody saw, in the recording's own words: where the hooks
/// were not, or did not run. What such a session shows proves nothing more.
pub fn unseen(recording: &Recording) -> Option<Outcome> {
    let gaps = recording.of("gap");
    let unseen = gaps.iter().any(|gap| gap["cause"] == "detached");
    unseen.then(|| Outcome::Limit(describe(&gaps)))
}

/// Gaps in words, one a cause and class.
fn describe(gaps: &[&Value]) -> String {
    let mut lines = Vec::<(String, u64, u64)>::new();
    for gap in gaps {
        let word = |key: &str| gap[key].as_str().unwrap_or("?").to_owned();
        let name = format!("{} ({})", word("cause"), word("class"));
        let number = |key: &str| gap[key].as_u64().unwrap_or(0);
        let (events, bytes) = (number("events"), number("bytes"));
        match lines.iter_mut().find(|(known, ..)| *known == name) {
            Some(line) => {
                line.1 += events;
                line.2 += bytes;
            }
            None => lines.push((name, events, bytes)),
        }
    }
    let words = lines
        .iter()
        .map(|(name, events, bytes)| format!("{name}: {events} events, {bytes} bytes"));
    words.collect::<Vec<_>>().join(", ")
}

/// The recorded bytes of a stream, in order.
pub fn recorded(recording: &Recording, stream: Stream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for event in events(recording, stream) {
        bytes.extend(bytes_of(event)?);
    }
    Ok(bytes)
}

fn events(recording: &Recording, stream: Stream) -> impl Iterator<Item = &Value> {
    recording.of(stream.kind).into_iter().filter(move |event| {
        event["stream"] == stream.name && event["terminal"].as_u64().unwrap_or(0) == stream.terminal
    })
}

/// Every recorded piece stands where the witness saw it, and what is missing is
/// declared to the byte, or declared as a loss whose bytes nobody can know.
pub fn compare(recording: &Recording, stream: Stream, witnessed: &[u8]) -> Result<Outcome> {
    let outcome = declared(recording)?;
    let (mut position, mut accounted) = (0, 0);
    for event in events(recording, stream) {
        let offset = event["offset"].as_u64().context("an offset")?;
        let at = usize::try_from(offset)?;
        let bytes = bytes_of(event)?;
        let withheld =
            ["masked_bytes", "omitted_bytes"].map(|key| event[key].as_u64().unwrap_or(0));
        let length = bytes.len() + usize::try_from(withheld.iter().sum::<u64>())?;
        ensure!(
            at >= position,
            "{} goes back to {at} from {position}",
            stream.name
        );
        let same = bytes.is_empty() || witnessed.get(at..at + bytes.len()) == Some(&bytes[..]);
        ensure!(same, "{} differs after byte {at}", stream.name);
        position = at + length;
        accounted += length;
    }
    if accounted == witnessed.len() {
        return Ok(outcome);
    }
    let gaps: Vec<_> = recording
        .of("gap")
        .into_iter()
        .filter(|gap| gap["class"] == stream.kind || gap["class"] == "any")
        .collect();
    let lost: u64 = gaps.iter().filter_map(|gap| gap["bytes"].as_u64()).sum();
    let unknown = gaps.iter().any(|gap| gap["bytes"].is_null());
    let all = witnessed.len();
    ensure!(
        accounted as u64 + lost == all as u64 || unknown,
        "{} {}: {accounted} of {all} bytes recorded, {lost} declared lost",
        stream.name,
        stream.kind
    );
    Ok(outcome)
}

/// `recorded` of `all` things that leave `events` events behind each are there;
/// whether the rest is declared.
pub fn count(recording: &Recording, recorded: usize, all: usize, events: usize) -> Result<Outcome> {
    let outcome = declared(recording)?;
    if recorded == all {
        return Ok(outcome);
    }
    ensure!(recorded < all, "{recorded} recorded of {all}");
    let gaps = recording.of("gap").into_iter();
    let classes = ["exec", "process", "any"];
    let gaps = gaps.filter(|gap| classes.iter().any(|class| gap["class"] == *class));
    let mut lost = 0;
    let mut unknown = false;
    for gap in gaps {
        match gap["events"].as_u64() {
            Some(events) => lost += events,
            None => unknown = true,
        }
    }
    let missing = (all - recorded) as u64;
    ensure!(
        unknown || (lost >= missing && lost <= missing * events as u64),
        "{recorded} of {all} recorded, {lost} events declared lost"
    );
    Ok(outcome.and(Outcome::Limit(format!("{recorded} of {all} recorded"))))
}

//! What is said on standard output: lines of tab-separated fields.

use std::fmt::Display;

use anyhow::Error;

/// One reading.
pub fn sample(measure: &str, recorder: &str, round: u32, value: f64) {
    line(&[&"sample", &measure, &recorder, &round, &value]);
}

/// A recorder that cannot be had here.
pub fn absent(recorder: &str, reason: &str) {
    line(&[&"absent", &recorder, &reason]);
}

/// A reading that is missing.
pub fn failed(recorder: &str, what: &str, reason: &Error) {
    eprintln!("bench: {recorder}: {what}: {reason:#}");
    line(&[&"failed", &recorder, &what, &format!("{reason:#}")]);
}

/// What the numbers hold for.
pub fn fact(name: &str, text: &str) {
    line(&[&"fact", &name, &text]);
}

/// The end.
pub fn done() {
    line(&[&"done"]);
}

fn line(fields: &[&dyn Display]) {
    let clean = |field: &&dyn Display| field.to_string().replace(['\t', '\n', '\r'], " ");
    let fields: Vec<_> = fields.iter().map(clean).collect();
    println!("{}", fields.join("\t"));
}

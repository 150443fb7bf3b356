//! [`Cli`]: `auditty` as users type it.

use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::binary;

/// `auditty` with a source to ask.
#[derive(Clone, Debug)]
pub struct Cli {
    source: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Cli {
    /// `source` is `--collector …` or `--store …`.
    pub fn new(source: &[&str], environment: &[(String, String)]) -> Self {
        Self {
            source: source.iter().map(|word| (*word).to_owned()).collect(),
            environment: environment.to_vec(),
        }
    }

    /// Runs it, whatever comes.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments)
            .output()
            .context("auditty did not start")
    }

    /// The command line.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("auditty"));
        command.args(arguments).args(&self.source);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it; it must succeed. Its standard output.
    pub fn text(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        ensure!(
            output.status.success(),
            "auditty {arguments:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs it with `--output json`.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments: Vec<_> = arguments
            .iter()
            .copied()
            .chain(["--output", "json"])
            .collect();
        let text = self.text(&arguments)?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }
}

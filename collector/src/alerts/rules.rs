//! What of a report is an alert: sessions by what they say, commands by rules. A
//! rule is a filter over commands, in the language of `ListCommands`, a pattern for
//! the command line, or both. Either compares in time that grows with the command
//! line and with nothing else: the patterns are without look-around and
//! back-references, and their automata are bounded.

use auditty_proto::{
    filter::{Filter, command_line},
    v1,
};
use regex::{Regex, RegexBuilder};

use super::AlarmError;
use crate::store::{Batch, Cause, Fact};

/// Largest automaton of a pattern, bytes: hundreds of words, or a class of Unicode
/// some dozen times.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// Memory of a pattern while it compares, bytes for each thread.
const MAX_CACHE_BYTES: usize = 1 << 20;

/// A rule as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleText {
    /// Its name, for the alert.
    pub name: String,
    /// A filter over commands; empty: all.
    pub filter: String,
    /// A regular expression that something in the command line must match.
    pub pattern: Option<String>,
}

/// Commands that are an alert.
#[derive(Debug)]
pub struct Rule {
    name: String,
    filter: Filter<v1::Command>,
    pattern: Option<Regex>,
}

impl Rule {
    /// Reads a rule.
    pub fn new(rule: &RuleText) -> Result<Self, AlarmError> {
        let RuleText {
            name,
            filter,
            pattern,
        } = rule;
        let filter = Filter::commands(filter).map_err(|source| AlarmError::Filter {
            name: name.clone(),
            source,
        })?;
        let compiled = |pattern: &String| {
            let mut pattern = RegexBuilder::new(pattern);
            pattern.size_limit(MAX_PATTERN_BYTES);
            pattern.dfa_size_limit(MAX_CACHE_BYTES).build()
        };
        let pattern = pattern.as_ref().map(compiled).transpose();
        Ok(Self {
            name: name.clone(),
            filter,
            pattern: pattern.map_err(|source| AlarmError::Pattern {
                name: name.clone(),
                source,
            })?,
        })
    }

    fn names(&self, command: &v1::Command) -> bool {
        let line = |pattern: &Regex| pattern.is_match(&command_line(command));
        self.filter.matches(command) && self.pattern.as_ref().is_none_or(line)
    }
}

/// What of a batch is to be an alert.
pub(crate) fn causes(batch: &Batch, rules: &[Rule]) -> Vec<Cause> {
    let of = |fact: &Fact| match fact {
        Fact::Session { session, .. } => Cause::of_session(&batch.tenant, session),
        Fact::Command { session, command } => rules
            .iter()
            .filter(|rule| rule.names(command))
            .map(|rule| Cause::sensitive_command(batch, *session, &rule.name, command))
            .collect(),
        _ => Vec::new(),
    };
    batch.facts.iter().flat_map(of).collect()
}

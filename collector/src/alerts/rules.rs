//! What of a report is an alert: sessions by what they say, commands by rules. A
//! rule is a filter over commands, in the language of `ListCommands`: it compares
//! in time that grows with the command line and with nothing else.

use auditty_proto::{filter::Filter, v1};

use super::AlarmError;
use crate::store::{Batch, Cause, Fact};

/// Commands that are an alert.
#[derive(Debug)]
pub struct Rule {
    name: String,
    filter: Filter<v1::Command>,
}

impl Rule {
    /// The rule `name` for the commands that match `filter`.
    pub fn new(name: &str, filter: &str) -> Result<Self, AlarmError> {
        let parsed = Filter::commands(filter).map_err(|source| AlarmError::Filter {
            name: name.to_owned(),
            source,
        })?;
        Ok(Self {
            name: name.to_owned(),
            filter: parsed,
        })
    }
}

/// What of a batch is to be an alert.
pub(crate) fn causes(batch: &Batch, rules: &[Rule]) -> Vec<Cause> {
    let of = |fact: &Fact| match fact {
        Fact::Session { session, .. } => Cause::of_session(&batch.tenant, session),
        Fact::Command { session, command } => rules
            .iter()
            .filter(|rule| rule.filter.matches(command))
            .map(|rule| Cause::sensitive_command(batch, *session, &rule.name, command))
            .collect(),
        _ => Vec::new(),
    };
    batch.facts.iter().flat_map(of).collect()
}

//! Filters over commands of all sessions: fields of the command, and those of
//! its session behind `session.`.

use super::{COMMAND_FIELDS, Filter, FilterError, SESSION_FIELDS, WITHHELD_FIELDS, parse};
use crate::v1;

/// What a field of the session begins with.
const SESSION: &str = "session.";

/// Comparisons that must all hold, of a command and of the session it ran in.
#[derive(Debug)]
pub struct CommandSearch {
    /// Those of the command.
    pub command: Filter<v1::Command>,
    /// Those of its session.
    pub session: Filter<v1::Session>,
}

impl CommandSearch {
    /// Reads a filter over [`COMMAND_FIELDS`] and [`SESSION_FIELDS`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let (mut command, mut session) = (Vec::new(), Vec::new());
        parse::each_term(text, |reader| {
            if reader.skip_prefix(SESSION) {
                session.push(reader.comparison(SESSION_FIELDS)?);
            } else {
                let comparison = reader.comparison(COMMAND_FIELDS);
                command.push(comparison.map_err(FilterError::or_of_the_session)?);
            }
            Ok(())
        })?;
        Ok(Self {
            command: Filter {
                comparisons: command,
            },
            session: Filter {
                comparisons: session,
            },
        })
    }

    /// Whether it asks for what a host may keep out of its reports.
    pub fn asks_for_content(&self) -> bool {
        let mut names = self.command.comparisons.iter().map(|c| c.field.name);
        names.any(|name| WITHHELD_FIELDS.contains(&name))
    }

    /// The rest of it: what is asked of commands whatever their content.
    pub fn without_content(mut self) -> Self {
        let comparisons = &mut self.command.comparisons;
        comparisons.retain(|c| !WITHHELD_FIELDS.contains(&c.field.name));
        self
    }
}

//! Filters over commands. What no column holds is decided on the decoded message;
//! SQL leaves out what cannot match.

use auditty_proto::{
    filter::{Comparison, Filter, Operator, Value},
    v1,
};

use super::{database::Sql, filters::push_one, write::END_FIELDS};

/// Fields of a command that only its message has.
pub(super) const MESSAGE_FIELDS: [&str; 2] = ["argument", "word"];

/// Adds ` AND …` for every comparison: of one that the message decides, what the
/// command line must have for it.
pub(super) fn push_command_filter(sql: &mut Sql, filter: &Filter<v1::Command>) {
    for comparison in &filter.comparisons {
        if !is_of_message(comparison) {
            push_one(sql, comparison, |name| {
                if END_FIELDS.contains(&name) { "e" } else { "c" }
            });
        } else if let Some(text) = text_of_line(comparison) {
            sql.push(" AND ").contains("c.command_line", text);
        }
    }
}

/// The text that a command line must have for a comparison to hold, ASCII letters in
/// either case. It is the arguments as they are with spaces between, so what is a
/// part of one, or a word, is a part of it.
pub(super) fn text_of_line(comparison: &Comparison<v1::Command>) -> Option<&str> {
    match (comparison.operator, &comparison.value) {
        (Operator::Equal | Operator::Contains, Value::Text(text))
            if comparison.field.name == "command_line" || is_of_message(comparison) =>
        {
            Some(&**text)
        }
        _ => None,
    }
}

/// Whether the messages of commands decide something.
pub(super) fn asks_messages(filter: &Filter<v1::Command>) -> bool {
    filter.comparisons.iter().any(is_of_message)
}

/// Whether what the message of a command decides holds for it.
pub(super) fn message_matches(filter: &Filter<v1::Command>, command: &v1::Command) -> bool {
    let comparisons = filter.comparisons.iter();
    let mut of_message = comparisons.filter(|comparison| is_of_message(comparison));
    of_message.all(|comparison| comparison.matches(command))
}

fn is_of_message(comparison: &Comparison<v1::Command>) -> bool {
    MESSAGE_FIELDS.contains(&comparison.field.name)
}

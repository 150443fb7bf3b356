//! Text → [`Filter`], with errors that say where and what instead.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{Comparison, Field, Filter, Kind, Operator, Value};

/// Longest filter, in bytes.
pub const MAX_FILTER_LEN: usize = 8 * 1024;
/// Most comparisons in a filter.
pub const MAX_TERMS: usize = 50;
/// How much of a wrong word an error repeats, in characters.
const QUOTE_LEN: usize = 40;

/// The field of labels, and what stands before the name of one.
const LABEL: &str = "label";
const LABELS: &str = "labels.";

/// Longest first where one begins with another.
const OPERATORS: [Operator; 7] = [
    Operator::LessOrEqual,
    Operator::GreaterOrEqual,
    Operator::NotEqual,
    Operator::Equal,
    Operator::Less,
    Operator::Greater,
    Operator::Contains,
];

/// What is wrong with a filter, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter, character {position}: {message}")]
pub struct FilterError {
    /// Character the problem begins at, counted from 1.
    pub position: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl FilterError {
    /// Where fields of a command's session are accepted as well.
    pub(super) fn or_of_the_session(mut self) -> Self {
        if self.message.contains("fields are: ") {
            let more = ", and every field of the session as `session.user`";
            self.message.push_str(more);
        }
        self
    }
}

/// Reads a filter over these fields.
pub(super) fn parse<R>(text: &str, fields: &'static [Field<R>]) -> Result<Filter<R>, FilterError> {
    let mut comparisons = Vec::new();
    each_term(text, |reader| {
        comparisons.push(reader.comparison(fields)?);
        Ok(())
    })?;
    Ok(Filter { comparisons })
}

/// Has every comparison of a filter read.
pub(super) fn each_term(
    text: &str,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<(), FilterError>,
) -> Result<(), FilterError> {
    if text.len() > MAX_FILTER_LEN {
        return Err(FilterError {
            position: 1,
            message: format!(
                "the filter has {} bytes, at most {MAX_FILTER_LEN} are accepted",
                text.len()
            ),
        });
    }
    let mut reader = Reader { text, rest: text };
    let mut terms = 0;
    reader.skip_space();
    while !reader.rest.is_empty() {
        if terms > 0 {
            reader.and()?;
        }
        if terms == MAX_TERMS {
            return Err(reader.error(format!("at most {MAX_TERMS} comparisons are accepted")));
        }
        read(&mut reader)?;
        terms += 1;
        reader.skip_space();
    }
    Ok(())
}

pub(super) struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// Reads over this, where it stands next.
    pub(super) fn skip_prefix(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn comparison<R>(
        &mut self,
        fields: &'static [Field<R>],
    ) -> Result<Comparison<R>, FilterError> {
        if let Some(field) = fields.iter().find(|field| field.name == LABEL)
            && self.skip_prefix(LABELS)
        {
            return self.label(field);
        }
        let field = self.field(fields)?;
        self.skip_space();
        let operator = self.operator(field)?;
        self.skip_space();
        let at = self.rest;
        let word = self.value(field)?;
        let value = typed(field.kind, &word).map_err(|expected| {
            self.error_at(
                at,
                format!("`{}` takes {expected}, not {}", field.name, quoted(&word)),
            )
        })?;
        Ok(Comparison {
            field,
            operator,
            value,
        })
    }

    /// `labels.` is read already: a key, whether it has the value, and the value.
    fn label<R>(&mut self, field: &'static Field<R>) -> Result<Comparison<R>, FilterError> {
        let is_key = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        let key = self.take_while(is_key);
        if key.is_empty() {
            return Err(self.error("expected the name of a label, as in `labels.env`".to_owned()));
        }
        self.skip_space();
        let operator = match self.operator(field)? {
            operator @ (Operator::Equal | Operator::NotEqual) => operator,
            _ => return Err(self.error(format!("`labels.{key}` takes = and != only"))),
        };
        self.skip_space();
        let value = super::fields::label(key, &self.value(field)?);
        Ok(Comparison {
            field,
            operator,
            value: Value::Text(value.into()),
        })
    }

    fn field<R>(&mut self, fields: &'static [Field<R>]) -> Result<&'static Field<R>, FilterError> {
        let at = self.rest;
        let word = self.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
        fields
            .iter()
            .find(|field| field.name == word)
            .ok_or_else(|| {
                let known: Vec<_> = fields.iter().map(|field| field.name).collect();
                let known = known.join(", ");
                let message = match (word, at.chars().next()) {
                    ("", None) => format!("expected a field after AND; fields are: {known}"),
                    ("", Some(found)) => {
                        format!("expected a field, found {found:?}; fields are: {known}")
                    }
                    (word, _) => format!("there is no field {}; fields are: {known}", quoted(word)),
                };
                self.error_at(at, message)
            })
    }

    fn operator<R>(&mut self, field: &Field<R>) -> Result<Operator, FilterError> {
        let at = self.rest;
        let found = OPERATORS
            .into_iter()
            .find_map(|operator| Some((operator, at.strip_prefix(operator.symbol())?)));
        let accepted: &[&str] = match field.kind {
            Kind::Text => &["=", "!=", "<", "<=", ">", ">=", ":"],
            Kind::Int | Kind::Time => &["=", "!=", "<", "<=", ">", ">="],
            Kind::Words | Kind::Bool | Kind::Enum(_) => &["=", "!="],
        };
        match found {
            Some((operator, rest)) if accepted.contains(&operator.symbol()) => {
                self.rest = rest;
                Ok(operator)
            }
            _ => Err(self.error(format!(
                "expected an operator after `{}`, one of: {}",
                field.name,
                accepted.join(" ")
            ))),
        }
    }

    fn value<R>(&mut self, field: &Field<R>) -> Result<String, FilterError> {
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            _ => {
                let at = self.rest;
                let word =
                    self.take_while(|c| !c.is_whitespace() && !matches!(c, '"' | '\'' | '(' | ')'));
                // Two operators in a row are a slip, not a value.
                if word.is_empty() || word.starts_with(['=', '!', '<', '>']) {
                    return Err(self.error_at(at, format!("expected a value for `{}`", field.name)));
                }
                Ok(word.to_owned())
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, FilterError> {
        let start = self.rest;
        let mut word = String::new();
        let mut chars = start.char_indices().skip(1);
        while let Some((index, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = start.get(index + c.len_utf8()..).unwrap_or_default();
                    return Ok(word);
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\'' | '\\'))) => word.push(c),
                    Some((_, 'n')) => word.push('\n'),
                    Some((_, 't')) => word.push('\t'),
                    _ => {
                        let at = start.get(index..).unwrap_or_default();
                        let escapes = r#"after a backslash only " ' \ n t are accepted"#;
                        return Err(self.error_at(at, escapes.to_owned()));
                    }
                },
                c => word.push(c),
            }
        }
        Err(self.error(format!("the text has no closing {quote}")))
    }

    fn and(&mut self) -> Result<(), FilterError> {
        let at = self.rest;
        match self.take_while(|c| !c.is_whitespace()) {
            "AND" => {
                self.skip_space();
                Ok(())
            }
            found => Err(self.error_at(
                at,
                format!(
                    "expected AND, found {}; comparisons are joined by AND only",
                    quoted(found)
                ),
            )),
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take_while(&mut self, part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        word
    }

    fn error(&self, message: String) -> FilterError {
        self.error_at(self.rest, message)
    }

    fn error_at(&self, at: &str, message: String) -> FilterError {
        let before = self.text.len().saturating_sub(at.len());
        let before = self.text.get(..before).unwrap_or_default();
        FilterError {
            position: before.chars().count() + 1,
            message,
        }
    }
}

/// A value of a kind, or what the kind takes.
fn typed(kind: Kind, word: &str) -> Result<Value<'static>, String> {
    match kind {
        Kind::Words if word.is_empty() => Err("a text that is not empty".to_owned()),
        Kind::Text | Kind::Words => Ok(Value::Text(word.to_owned().into())),
        Kind::Int => word
            .parse()
            .map(Value::Int)
            .map_err(|_| "a whole number from 0 to 18446744073709551615".to_owned()),
        Kind::Time => time(word).map(Value::Time).ok_or_else(|| {
            "a time such as \"2026-01-31T00:00:00Z\" or a date such as 2026-01-31".to_owned()
        }),
        Kind::Bool => match word {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err("true or false".to_owned()),
        },
        Kind::Enum(values) => values.parse(word).map(Value::Enum).ok_or_else(|| {
            let names: Vec<_> = values.values().map(|(_, name)| name).collect();
            format!("one of: {}", names.join(", "))
        }),
    }
}

fn time(word: &str) -> Option<Timestamp> {
    // A date alone: jiff would also read one off the front of a local time.
    if word.len() == "2026-01-31".len() {
        let date: Date = word.parse().ok()?;
        return Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp());
    }
    word.parse().ok()
}

/// A word of the filter, fit to be shown: bounded, control characters escaped.
fn quoted(word: &str) -> String {
    let mut start: String = word.chars().take(QUOTE_LEN).collect();
    if start.len() < word.len() {
        start.push('…');
    }
    format!("{start:?}")
}

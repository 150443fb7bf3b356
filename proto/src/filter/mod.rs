//! The filter language of list requests: a small part of AIP-160.
//!
//! ```text
//! filter     = [ comparison { "AND" comparison } ]
//! comparison = field operator value
//! operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | ":"
//! value      = quoted | bare
//! quoted     = '"' … '"' or "'" … "'", with the escapes \" \' \\ \n \t
//! bare       = one or more characters other than space, quotes, parentheses
//! ```
//!
//! What a comparison means is defined once, here, and holds for SQL and for
//! [`Filter::matches`] alike. A field has any number of values: one as a rule,
//! none where it is not set, several for a list such as `approver`.
//!
//! - Every operator but `!=` asks whether *any* value compares so; `!=` asks
//!   whether *no* value is equal. So `exit_code = 0` leaves out what has not
//!   exited, and `exit_code != 0` includes it.
//! - Text compares by bytes. `:` asks whether the text contains the value,
//!   ASCII letters in either case.
//! - Times are RFC 3339, or a date alone, which is its first moment in UTC.
//! - Enum values are given by their short names (`active`) or full ones.
//! - Enums and booleans compare with `=` and `!=` only, `:` with text only.
//! - `person` has every name of who was at work: the key id and the principals of
//!   the certificate, and the requester of the grant. Unix users are none.
//! - `argument` has every argument of a command, the first of them its own name.
//! - `word`, with `=` and `!=` only, asks whether a text stands in the command line
//!   and neither begins nor ends within a word, which is a run of letters, digits and
//!   `_`: `word = rm` finds `/bin/rm -r x`, and not `alarm`.
//! - `labels.env = "prod"` is `label = "env=prod"`, and likewise `!=`: the labels of
//!   the session's or alert's host are texts `key=value`.
//! - Where commands of all sessions are asked for, every field of their session
//!   can be named as `session.user` ([`CommandSearch`]).

mod activity_fields;
mod alert_fields;
mod audit_fields;
mod failed_login_fields;
mod fields;
mod host_fields;
mod parse;
mod search;

use std::borrow::Cow;

use jiff::Timestamp;

pub use activity_fields::ACTIVITY_FIELDS;
pub use alert_fields::ALERT_FIELDS;
pub use audit_fields::AUDIT_FIELDS;
pub use failed_login_fields::FAILED_LOGIN_FIELDS;
pub use fields::{COMMAND_FIELDS, SESSION_FIELDS, WITHHELD_FIELDS, command_line};
pub use host_fields::HOST_FIELDS;
pub use parse::{FilterError, MAX_FILTER_LEN, MAX_TERMS};
pub use search::CommandSearch;

use crate::v1;

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `:`, contains.
    Contains,
}

impl Operator {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Contains => ":",
        }
    }
}

/// One value of a field, or what it is compared with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd)]
pub enum Value<'a> {
    /// Of a [`Kind::Text`] or [`Kind::Words`] field.
    Text(Cow<'a, str>),
    /// Of a [`Kind::Int`] field.
    Int(u64),
    /// Of a [`Kind::Time`] field.
    Time(Timestamp),
    /// Of a [`Kind::Bool`] field.
    Bool(bool),
    /// Number of the value of a [`Kind::Enum`] field.
    Enum(i32),
}

/// What values a field has.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// UTF-8 text that is asked for whole words.
    Words,
    /// Whole number, 0 to 2^64 − 1.
    Int,
    /// Moment.
    Time,
    /// `true` or `false`.
    Bool,
    /// One of a list.
    Enum(EnumKind),
}

/// The values of an enumeration.
#[derive(Clone, Copy, Debug)]
pub struct EnumKind {
    prefix: &'static str,
    full_name: fn(i32) -> Option<&'static str>,
}

impl EnumKind {
    /// Numbers and short names, in the order of the schema.
    pub fn values(self) -> impl Iterator<Item = (i32, String)> {
        (0..)
            .map_while(move |number| Some((number, (self.full_name)(number)?)))
            .map(move |(number, full)| (number, crate::names::short(self.prefix, full)))
    }

    fn parse(self, name: &str) -> Option<i32> {
        let (number, _) = self.values().find(|(number, short)| {
            short == name || (self.full_name)(*number).is_some_and(|full| full == name)
        })?;
        Some(number)
    }
}

/// A field of `R` that filters can name.
pub struct Field<R: 'static> {
    /// Its name: lower-case ASCII and underscores, fit for a column's name.
    pub name: &'static str,
    /// What values it has.
    pub kind: Kind,
    /// It may have several values.
    pub repeated: bool,
    /// Its values in a record.
    pub values: for<'a> fn(&'a R) -> Vec<Value<'a>>,
}

impl<R> std::fmt::Debug for Field<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// One comparison.
#[derive(Debug)]
pub struct Comparison<R: 'static> {
    /// What is compared.
    pub field: &'static Field<R>,
    /// How.
    pub operator: Operator,
    /// With what; of the field's kind.
    pub value: Value<'static>,
}

impl<R> Comparison<R> {
    /// Whether it holds for a record.
    pub fn matches(&self, record: &R) -> bool {
        let values = (self.field.values)(record);
        let mut values = values.iter();
        let equal = |value: &Value<'_>| match self.field.kind {
            Kind::Words => has_words(value, &self.value),
            _ => *value == self.value,
        };
        match self.operator {
            Operator::Equal => values.any(equal),
            Operator::NotEqual => !values.any(equal),
            Operator::Less => values.any(|value| *value < self.value),
            Operator::LessOrEqual => values.any(|value| *value <= self.value),
            Operator::Greater => values.any(|value| *value > self.value),
            Operator::GreaterOrEqual => values.any(|value| *value >= self.value),
            Operator::Contains => values.any(|value| contains(value, &self.value)),
        }
    }
}

fn contains(value: &Value<'_>, part: &Value<'_>) -> bool {
    match (value, part) {
        (Value::Text(text), Value::Text(part)) => text
            .to_ascii_lowercase()
            .contains(&part.to_ascii_lowercase()),
        _ => false,
    }
}

/// Whether a text has a part that neither begins nor ends within a word.
fn has_words(value: &Value<'_>, part: &Value<'_>) -> bool {
    let (Value::Text(text), Value::Text(part)) = (value, part) else {
        return false;
    };
    let starts = text.char_indices();
    let mut places = starts.filter_map(|(at, _)| text.split_at_checked(at));
    places.any(|(before, from)| {
        from.strip_prefix(&**part)
            .is_some_and(|after| !in_word(before, part) && !in_word(part, after))
    })
}

/// Whether a word goes on from one text into the next.
fn in_word(before: &str, after: &str) -> bool {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    before.ends_with(of_word) && after.starts_with(of_word)
}

/// Comparisons that must all hold; none at all holds for everything.
#[derive(Debug)]
pub struct Filter<R: 'static> {
    /// The comparisons, as written.
    pub comparisons: Vec<Comparison<R>>,
}

impl<R> Filter<R> {
    /// What holds for every record.
    pub fn every() -> Self {
        Self {
            comparisons: Vec::new(),
        }
    }

    /// Whether all comparisons hold for a record.
    pub fn matches(&self, record: &R) -> bool {
        self.comparisons
            .iter()
            .all(|comparison| comparison.matches(record))
    }
}

impl Filter<v1::Session> {
    /// Reads a filter over [`SESSION_FIELDS`].
    pub fn sessions(text: &str) -> Result<Self, FilterError> {
        parse::parse(text, SESSION_FIELDS)
    }
}

impl Filter<v1::Command> {
    /// Reads a filter over [`COMMAND_FIELDS`].
    pub fn commands(text: &str) -> Result<Self, FilterError> {
        parse::parse(text, COMMAND_FIELDS)
    }
}

impl Filter<v1::AuditRecord> {
    /// Reads a filter over [`AUDIT_FIELDS`].
    pub fn audit_records(text: &str) -> Result<Self, FilterError> {
        parse::parse(text, AUDIT_FIELDS)
    }
}

impl Filter<v1::Alert> {
    /// Reads a filter over [`ALERT_FIELDS`].
    pub fn alerts(text: &str) -> Result<Self, FilterError> {
        parse::parse(text, ALERT_FIELDS)
    }
}

impl Filter<v1::KnownHost> {
    /// Reads a filter over [`HOST_FIELDS`].
    pub fn hosts(text: &str) -> Result<Self, FilterError> {
        parse::parse(text, HOST_FIELDS)
    }
}

impl Filter<v1::FailedLogin> {
    /// Reads a filter over [`FAILED_LOGIN_FIELDS`].
    pub fn failed_logins(text: &str) -> Result<Self, FilterError> {
        parse::parse(text, FAILED_LOGIN_FIELDS)
    }
}

impl Filter<v1::Activity> {
    /// Reads a filter over [`ACTIVITY_FIELDS`].
    pub fn activities(text: &str) -> Result<Self, FilterError> {
        parse::parse(text, ACTIVITY_FIELDS)
    }
}

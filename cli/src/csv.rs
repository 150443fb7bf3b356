//! Comma-separated values (RFC 4180) for spreadsheets and reports: a line of names,
//! then a line for each record.
//!
//! What a terminal would act on is escaped as in tables, so that every record is one
//! line. A text that a spreadsheet would take for a formula gets an apostrophe in
//! front: names and commands are chosen by those who are watched.

use auditty_proto::filter::{Field, Kind, Value};

use crate::sanitise;

/// A cell.
pub enum Cell {
    /// Of whoever chose it.
    Text(String),
    /// Numbers, times and words of ours.
    Plain(String),
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Plain(number.to_string())
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The names as the first line.
pub fn header<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    row(names.into_iter().map(|name| Cell::Plain(name.to_owned())))
}

/// A record as a line.
pub fn row(cells: impl IntoIterator<Item = Cell>) -> String {
    let cells: Vec<_> = cells.into_iter().map(cell).collect();
    cells.join(",") + "\r\n"
}

fn cell(cell: Cell) -> String {
    let text = match cell {
        Cell::Plain(text) => text,
        Cell::Text(text) => {
            let text = sanitise::line(&text);
            match text.starts_with(['=', '+', '-', '@']) {
                true => format!("'{text}"),
                false => text,
            }
        }
    };
    match text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

/// The cells of a record, one for each field that filters can name; several values
/// stand in one, with semicolons between.
pub fn fields<R>(fields: &[Field<R>], record: &R) -> Vec<Cell> {
    let cell = |field: &Field<R>| {
        let values = (field.values)(record);
        let texts: Vec<_> = values.iter().map(|value| text(field, value)).collect();
        match field.kind {
            Kind::Text | Kind::Words => Cell::Text(texts.join(";")),
            _ => Cell::Plain(texts.join(";")),
        }
    };
    fields.iter().map(cell).collect()
}

fn text<R>(field: &Field<R>, value: &Value<'_>) -> String {
    match (value, field.kind) {
        (Value::Text(text), _) => text.to_string(),
        (Value::Int(number), _) => number.to_string(),
        (Value::Time(time), _) => time.to_string(),
        (Value::Bool(truth), _) => truth.to_string(),
        (Value::Enum(number), Kind::Enum(kind)) => {
            let name = kind.values().find(|(value, _)| value == number);
            name.map_or_else(|| number.to_string(), |(_, name)| name)
        }
        (Value::Enum(number), _) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, header, row};

    #[test]
    fn what_is_hostile_stays_one_harmless_cell() {
        let cells = ["a", "a,b", "say \"x\"", "=1+1", "two\nlines", "-rf", ""];
        assert_eq!(
            row(cells.map(Cell::from)),
            "a,\"a,b\",\"say \"\"x\"\"\",'=1+1,two\\nlines,'-rf,\r\n"
        );
        assert_eq!(row([Cell::from(7), Cell::Plain("-1".into())]), "7,-1\r\n");
        assert_eq!(header(["a", "b"]), "a,b\r\n");
    }
}

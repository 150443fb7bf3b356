//! Tables and sections for people. Everything that goes in is sanitised here.

use std::io::{self, IsTerminal};

use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, presets};

use crate::sanitise;

/// Narrowest table; a smaller window wraps it.
const MIN_WIDTH: u16 = 60;

/// How a cell stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As everything else.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Worth a look now.
    Bad,
}

impl Tone {
    fn colour(self) -> Option<Color> {
        match self {
            Self::Plain => None,
            Self::Good => Some(Color::Green),
            Self::Warning => Some(Color::Yellow),
            Self::Bad => Some(Color::Red),
        }
    }
}

/// A piece of text with its tone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    text: String,
    tone: Tone,
}

impl Text {
    /// Text that stands out.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }

    /// As it is, without its tone.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// A column of a table.
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// Numbers stand at the right.
    pub number: bool,
    /// Never broken into lines.
    pub whole: bool,
}

impl Column {
    /// Text that may be broken into lines.
    pub const fn text(title: &'static str) -> Self {
        Self {
            title,
            number: false,
            whole: false,
        }
    }

    /// Text that stays on one line.
    pub const fn whole(title: &'static str) -> Self {
        Self {
            whole: true,
            ..Self::text(title)
        }
    }

    /// A number.
    pub const fn number(title: &'static str) -> Self {
        Self {
            number: true,
            ..Self::whole(title)
        }
    }
}

/// A table as text. On a terminal it fits the window; elsewhere every row is
/// one line.
pub fn render(columns: &[Column], rows: Vec<Vec<Text>>, colour: bool) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    if colour {
        table.enforce_styling();
    }
    match window_width() {
        Some(width) => {
            let width = width.max(MIN_WIDTH);
            table
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(width);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    table.set_header(columns.iter().map(|column| column.title));
    for row in rows {
        table.add_row(row.into_iter().map(cell));
    }
    for (column, shape) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if shape.number {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if shape.whole {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt() + "\n"
}

fn cell(text: Text) -> Cell {
    let cell = Cell::new(sanitise::line(&text.text));
    match text.tone.colour() {
        Some(colour) => cell.fg(colour),
        None => cell,
    }
}

fn window_width() -> Option<u16> {
    if !io::stdout().is_terminal() {
        return None;
    }
    crossterm::terminal::size().ok().map(|(columns, _)| columns)
}

/// A titled list of labelled values.
pub struct Section {
    title: &'static str,
    rows: Vec<(&'static str, Text)>,
}

/// Width of the labels.
const LABEL_WIDTH: usize = 16;

impl Section {
    /// An empty section.
    pub fn new(title: &'static str) -> Self {
        Self {
            title,
            rows: Vec::new(),
        }
    }

    /// Adds a value; an empty one is left out.
    pub fn row(&mut self, label: &'static str, value: impl Into<Text>) -> &mut Self {
        let value = value.into();
        if !value.text.is_empty() {
            self.rows.push((label, value));
        }
        self
    }

    /// The section as text.
    pub fn render(&self, colour: bool) -> String {
        let mut out = format!("{}\n", self.title);
        for (label, value) in &self.rows {
            let text = sanitise::line(&value.text);
            let text = match value.tone {
                _ if !colour => text,
                Tone::Plain => text,
                Tone::Good => format!("\x1b[32m{text}\x1b[0m"),
                Tone::Warning => format!("\x1b[33m{text}\x1b[0m"),
                Tone::Bad => format!("\x1b[31m{text}\x1b[0m"),
            };
            out.push_str(&format!("  {label:LABEL_WIDTH$}{text}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{Column, Section, Text, Tone, render};

    #[test]
    fn hostile_cells_are_sanitised_and_do_not_break_the_table() {
        let columns = [Column::whole("USER"), Column::number("N")];
        let row = vec![Text::from("a\x1b[2J\nb"), Text::toned("7", Tone::Bad)];
        assert_eq!(
            render(&columns, vec![row], false),
            "USER         N\na\\x1b[2J\\nb  7\n"
        );
    }

    #[test]
    fn sections_leave_out_what_is_empty() {
        let mut section = Section::new("Who");
        section.row("user", "al\x07ice").row("ticket", "");
        assert_eq!(section.render(false), "Who\n  user            al\\x07ice\n");
        section.row("grant", Text::toned("none", Tone::Bad));
        assert!(section.render(true).contains("\x1b[31mnone\x1b[0m"));
    }
}

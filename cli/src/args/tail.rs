//! `auditty tail`.

use clap::Args;

const TAIL_HELP: &str = "\
A session comes to its store piece by piece, every 8 seconds unless its host is
configured otherwise, and is printed as it comes, until it ends. What acts on a
terminal is left out; a line that was written anew stands below what it was. Full
screens are for `auditty replay`. Losses stand where they are, as [GAP …].

With --output json, each event as the recording has it, one a line, of all terminals;
what was typed and is encrypted apart is in `auditty export` alone.";

/// `auditty tail`.
#[derive(Args, Debug)]
#[command(after_help = TAIL_HELP)]
pub struct Tail {
    /// The session
    pub session: String,
    /// How much of what is there already comes first: so many lines, or `all`
    #[arg(short = 'n', long, value_name = "N", default_value = "10", value_parser = lines)]
    pub lines: Lines,
    /// Which terminal of the session; 0 is the client's own, the others are
    /// those of tmux, screen, script, sudo and the like
    #[arg(long, value_name = "N", default_value = "0")]
    pub terminal: u32,
}

/// Most lines that are held before they are shown.
const MAX_LINES: usize = 100_000;

/// How much of what is there already is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// From the session's start on.
    All,
    /// So many lines.
    Last(usize),
}

fn lines(text: &str) -> Result<Lines, String> {
    match (text, text.parse::<usize>()) {
        ("all", _) => Ok(Lines::All),
        (_, Ok(lines)) if lines <= MAX_LINES => Ok(Lines::Last(lines)),
        _ => Err(format!("give a number up to {MAX_LINES}, or `all`")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, lines};

    #[test]
    fn lines_are_a_number_or_all() {
        assert_eq!(lines("all"), Ok(Lines::All));
        assert_eq!(lines("0"), Ok(Lines::Last(0)));
        for wrong in ["", "-1", "ten", "100001"] {
            assert!(lines(wrong).is_err(), "{wrong}");
        }
    }
}

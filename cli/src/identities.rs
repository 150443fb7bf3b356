//! Private keys for encrypted recordings.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use auditty_recording::encryption::Identities;
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};

use crate::failure::{Failure, Result};

/// Reads the keys of all files; asks for passphrases where somebody is there.
///
/// # Errors
/// A file that cannot be read, or has no key that can be used.
pub fn load(files: &[PathBuf]) -> Result<Identities> {
    let mut identities = Identities::default();
    for path in files {
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::usage(format!("--identity: {}: {error}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let added = identities.add(&text, || passphrase(path));
        added.map_err(|error| wrong(&error))?;
    }
    Ok(identities)
}

/// What is typed, unseen; `None` where nobody is there, or gives up.
fn passphrase(path: &Path) -> Option<String> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    let shown = crate::sanitise::line(&path.display().to_string());
    eprint!("Passphrase of {shown}: ");
    io::stderr().flush().ok()?;
    enable_raw_mode().ok()?;
    let typed = typed();
    let _ = disable_raw_mode();
    eprintln!();
    typed
}

fn typed() -> Option<String> {
    let mut text = String::new();
    loop {
        let Event::Key(key) = read().ok()? else {
            continue;
        };
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            _ if key.kind == KeyEventKind::Release => {}
            KeyCode::Enter => return Some(text),
            KeyCode::Esc => return None,
            KeyCode::Char('c' | 'd') if control => return None,
            KeyCode::Char('u') if control => text.clear(),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char(c) => text.push(c),
            _ => {}
        }
    }
}

//! How a run ends when it does not end well: one readable line, a hint, and an
//! exit code that a script can tell apart.

use std::fmt;

use crate::sanitise;

/// What kind of failure it is; it decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something did not work: exit code 1.
    Error,
    /// The question was wrong: exit code 2.
    Usage,
    /// There is no such session: exit code 3.
    NotFound,
    /// The recording is damaged; what is good was shown: exit code 4.
    Integrity,
    /// No key opens the recording: exit code 1.
    Locked,
    /// A verification found something wrong: exit code 1.
    Findings,
    /// A verification could not be done: exit code 2.
    Unchecked,
}

/// A failure with its message and, where there is one, what to do about it.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Something did not work.
    pub fn error(message: impl fmt::Display) -> Self {
        Self::new(Kind::Error, message)
    }

    /// The question was wrong.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// What was asked for does not exist.
    pub fn not_found(message: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The recording is damaged.
    pub fn integrity(message: impl fmt::Display) -> Self {
        Self::new(Kind::Integrity, message)
    }

    /// No key opens the recording.
    pub fn locked(message: impl fmt::Display) -> Self {
        Self::new(Kind::Locked, message)
    }

    /// Whether it is that no key opens the recording.
    pub fn is_locked(&self) -> bool {
        self.kind == Kind::Locked
    }

    /// A failure of the given kind.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            hint: None,
        }
    }

    /// The same, as the reason why something could not be verified.
    #[must_use]
    pub fn unchecked(self) -> Self {
        Self {
            kind: Kind::Unchecked,
            ..self
        }
    }

    /// Adds what the reader can do.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Error | Kind::Locked | Kind::Findings => 1,
            Kind::Usage | Kind::Unchecked => 2,
            Kind::NotFound => 3,
            Kind::Integrity => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sanitise::line(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {}", sanitise::line(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// An error with its causes on one line, as in `reading x: no such file`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many libraries repeat their cause in their own message.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The result of everything a verb does.
pub type Result<T> = std::result::Result<T, Failure>;

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::error(error)
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn messages_are_sanitised() {
        let failure = Failure::error("no \x1b[2J here").hint("\u{202e}");
        assert_eq!(failure.to_string(), "no \\x1b[2J here\nhint: \\u{202e}");
    }

    #[test]
    fn exit_codes_differ() {
        assert_eq!(Failure::error("").exit_code(), 1);
        assert_eq!(Failure::usage("").exit_code(), 2);
        assert_eq!(Failure::not_found("").exit_code(), 3);
        assert_eq!(Failure::integrity("").exit_code(), 4);
    }
}

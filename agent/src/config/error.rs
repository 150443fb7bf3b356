//! Configuration errors that name the key, the file, the line and what is
//! accepted.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why a configuration was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file's content was not accepted.
    #[error("{}:{line}: {message}", path.display())]
    Rejected {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Which key, and what is accepted.
        message: String,
    },
}

/// The text of a configuration file, to say where in it something is wrong.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// `key` has a value at `span` that is not accepted.
    pub(super) fn rejected(
        &self,
        key: &str,
        span: Range<usize>,
        accepted: impl std::fmt::Display,
    ) -> ConfigError {
        let value = self.text.get(span.clone()).unwrap_or_default();
        self.at(
            span.start,
            format!("`{key}` is {value}; accepted: {accepted}"),
        )
    }

    /// `key` has a value at `span` that cannot be used, for this reason.
    pub(super) fn refused(&self, key: &str, span: Range<usize>, reason: String) -> ConfigError {
        self.at(span.start, format!("`{key}`: {reason}"))
    }

    /// What the TOML reader objects to.
    pub(super) fn unreadable(&self, error: &toml::de::Error) -> ConfigError {
        let start = error.span().map_or(0, |span| span.start);
        let message = error
            .message()
            .replace(", expected one of ", "; accepted: ");
        let message = match self.key_at(start) {
            Some(key) => format!("`{key}`: {message}"),
            None => message,
        };
        self.at(start, message)
    }

    fn at(&self, offset: usize, message: String) -> ConfigError {
        let before = self.text.get(..offset).unwrap_or_default();
        ConfigError::Rejected {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            message,
        }
    }

    /// `section.key` of the line at `offset`, where the line has one.
    fn key_at(&self, offset: usize) -> Option<String> {
        let line_start = self
            .text
            .get(..offset)?
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let (key, _) = self
            .text
            .get(line_start..)?
            .lines()
            .next()?
            .split_once('=')?;
        let section = self
            .text
            .get(..line_start)?
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix('[')?.split(']').next());
        Some(match section {
            Some(section) => format!("{}.{}", section.trim(), key.trim()),
            None => key.trim().to_owned(),
        })
    }
}

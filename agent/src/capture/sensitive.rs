//! Files of which also reads are facts: patterns of paths.
//!
//! A pattern names a file, or a directory and all that is in it. `*` stands for
//! any part of one name; a pattern that begins with `*/` holds below any
//! directory. The kernel programs filter by single names, see
//! [`SensitivePaths::names`]; the whole path is looked at here.

use std::collections::BTreeSet;

use auditty_capture_ebpf::{NAME_KEY, NAME_LEVELS, NAMES_MAX};

/// Patterns, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SensitivePaths(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    anywhere: bool,
    names: Vec<String>,
}

/// What a pattern has to be.
pub const ACCEPTED: &str = "an absolute path, or one below any directory such as \"*/.ssh/id_*\"; \
     * stands for a part of one name, and one of the last two names has none";

/// Patterns at most: each takes one of the names that the programs know.
pub const PATTERNS_MAX: usize = NAMES_MAX as usize / 2;

impl SensitivePaths {
    /// The patterns, or the first that is none.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let patterns = patterns
            .into_iter()
            .map(|pattern| Pattern::parse(pattern).ok_or(pattern));
        patterns.collect::<Result<_, _>>().map(Self)
    }

    /// Without patterns, no read is looked at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One name of each pattern: a file that matches has it, or one of the
    /// directories above it.
    pub fn names(&self) -> BTreeSet<[u8; NAME_KEY]> {
        let names = self.0.iter().filter_map(Pattern::key);
        names
            .map(|name| {
                let mut key = [0; NAME_KEY];
                let (text, _nul) = key.split_at_mut(NAME_KEY - 1);
                for (to, from) in text.iter_mut().zip(name.bytes()) {
                    *to = from;
                }
                key
            })
            .collect()
    }

    /// Whether a read of this path is a fact.
    pub fn matches(&self, path: &str) -> bool {
        let names: Vec<&str> = split(path).collect();
        self.0.iter().any(|pattern| pattern.matches(&names))
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let (anywhere, rest) = match text.strip_prefix("*/") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('/')?),
        };
        let names: Vec<String> = split(rest).map(str::to_owned).collect();
        let dots = |name: &String| name == "." || name == "..";
        let pattern = Self { anywhere, names };
        let plain = !pattern.names.iter().any(dots) && !text.contains('\0');
        (plain && pattern.key().is_some()).then_some(pattern)
    }

    fn key(&self) -> Option<&str> {
        let mut last = self.names.iter().rev().take(2);
        last.find(|name| !name.contains('*')).map(String::as_str)
    }

    fn matches(&self, path: &[&str]) -> bool {
        let starts = if self.anywhere { path.len() } else { 1 };
        // What lies deeper has the name too far above it.
        let depth = NAME_LEVELS as usize - 1;
        (0..starts).any(|start| {
            let rest = path.get(start..).unwrap_or_default();
            rest.len() >= self.names.len()
                && rest.len() - self.names.len() <= depth
                && self
                    .names
                    .iter()
                    .zip(rest)
                    .all(|(pattern, name)| matches_name(pattern.as_bytes(), name.as_bytes()))
        })
    }
}

/// The names of a path.
fn split(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// Whether a name is as a pattern says; `*` stands for any bytes.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let found =
            (0..=rest.len()).find_map(|at| rest.get(at..).and_then(|tail| tail.strip_prefix(part)));
        let Some(tail) = found else { return false };
        rest = tail;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sensitive(pattern: &str) -> SensitivePaths {
        SensitivePaths::parse([pattern]).unwrap()
    }

    #[test]
    fn a_pattern_is_a_file_or_a_directory_with_all_that_is_in_it() {
        let keys = sensitive("/root/.ssh");
        assert!(keys.matches("/root/.ssh"));
        assert!(keys.matches("/root/.ssh/id_rsa"));
        assert!(!keys.matches("/root/.sshx"));
        assert!(!keys.matches("/home/root/.ssh/id_rsa"));
        assert!(!keys.matches("/root"));
    }

    #[test]
    fn a_star_stands_for_a_part_of_one_name() {
        let host_keys = sensitive("/etc/ssh/*_key");
        assert!(host_keys.matches("/etc/ssh/ssh_host_rsa_key"));
        assert!(!host_keys.matches("/etc/ssh/ssh_host_rsa_key.pub"));
        assert!(!host_keys.matches("/etc/ssh/a/b_key"));
        let user_keys = sensitive("*/.ssh/id_*");
        assert!(user_keys.matches("/home/ann/.ssh/id_ed25519"));
        assert!(user_keys.matches("/.ssh/id_"));
        assert!(!user_keys.matches("/home/ann/.ssh/config"));
        assert!(matches_name(b"a*b*c", b"a--b-bc"));
        assert!(!matches_name(b"a*a", b"a"));
    }

    #[test]
    fn the_programs_know_a_name_of_each_pattern() {
        let names = |pattern: &str| -> Vec<String> {
            let keys = sensitive(pattern).names();
            let text =
                |key: [u8; NAME_KEY]| String::from_utf8(key.to_vec()).unwrap().replace('\0', "");
            keys.into_iter().map(text).collect()
        };
        assert_eq!(names("*/.ssh/id_*"), [".ssh"]);
        assert_eq!(names("/etc/shadow"), ["shadow"]);
        let long = "x".repeat(40);
        assert_eq!(names(&format!("/{long}")), [&long[..NAME_KEY - 1]]);
    }

    #[test]
    fn what_the_programs_cannot_filter_is_no_pattern() {
        for pattern in [
            "",
            "/",
            "*",
            "*/",
            "etc/shadow",
            "/etc/*/a*/*b",
            "/a/../b",
            "/*",
        ] {
            assert_eq!(SensitivePaths::parse([pattern]), Err(pattern), "{pattern}");
        }
    }
}

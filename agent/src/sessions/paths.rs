//! Patterns of paths: which reads are worth a record.

/// A list of patterns. `*` stands for any characters but a slash, `**` for any
/// characters, `?` for one character that is no slash; everything else stands
/// for itself. A pattern must match the whole path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathPatterns(Vec<String>);

impl PathPatterns {
    /// The patterns of a configuration.
    pub fn new(patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(patterns.into_iter().map(Into::into).collect())
    }

    /// Whether one of them matches.
    pub fn matches(&self, path: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, path))
    }
}

/// Where to go on when the characters after a star do not match: the pattern
/// behind the star, and one more character of the path than before.
#[derive(Clone, Copy)]
struct Retry<'a> {
    pattern: &'a str,
    path: &'a str,
    crosses: bool,
}

/// Only the latest `*` and the latest `**` are ever tried again, so the time is
/// bounded by the product of the lengths.
fn matches<'a>(mut pattern: &'a str, mut path: &'a str) -> bool {
    let (mut star, mut stars): (Option<Retry<'a>>, Option<Retry<'a>>) = (None, None);
    loop {
        if let Some(rest) = pattern.strip_prefix('*') {
            let (rest, crosses) = match rest.strip_prefix('*') {
                Some(rest) => (rest, true),
                None => (rest, false),
            };
            let retry = Retry {
                pattern: rest,
                path,
                crosses,
            };
            match crosses {
                true => (star, stars) = (None, Some(retry)),
                false => star = Some(retry),
            }
            pattern = rest;
            continue;
        }
        let (mut wanted, mut found) = (pattern.chars(), path.chars());
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || (a == '?' && b != '/') => {
                (pattern, path) = (wanted.as_str(), found.as_str());
                continue;
            }
            _ => {}
        }
        // Go back to the latest star that can take one more character.
        match next_try(&mut star).or_else(|| next_try(&mut stars)) {
            Some(retry) => {
                if retry.crosses {
                    star = None;
                }
                (pattern, path) = (retry.pattern, retry.path);
            }
            None => return false,
        }
    }
}

fn next_try<'a>(retry: &mut Option<Retry<'a>>) -> Option<Retry<'a>> {
    let known = retry.as_mut()?;
    let mut rest = known.path.chars();
    match rest.next() {
        Some(taken) if known.crosses || taken != '/' => known.path = rest.as_str(),
        _ => *retry = None,
    }
    *retry
}

#[cfg(test)]
mod tests {
    use super::{PathPatterns, matches};

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("/etc/shadow", "/etc/shadow", true),
            ("/etc/shadow", "/etc/shadow-", false),
            ("/home/*/.ssh/*", "/home/a/.ssh/id", true),
            ("/home/*/.ssh/*", "/home/a/b/.ssh/id", false),
            ("/home/*/.ssh/*", "/home/a/.ssh/x/id", false),
            ("/home/**/.ssh/**", "/home/a/b/.ssh/x/id", true),
            ("**.pem", "/a/b.pem", true),
            ("**.pem", "/a/b.pem.old", false),
            ("**/a*b", "/a/ab/axb", true),
            ("/x/??", "/x/ab", true),
            ("/x/??", "/x//b", false),
            ("/x/**", "/x/", true),
            ("", "", true),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
        assert!(PathPatterns::new(["/a", "/b"]).matches("/b"));
        assert!(!PathPatterns::default().matches("/b"));
    }

    #[test]
    fn hostile_patterns_take_bounded_time() {
        let pattern = "**a*".repeat(100) + "b";
        assert!(!matches(&pattern, &"a".repeat(4096)));
    }
}

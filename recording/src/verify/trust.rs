//! Keys somebody trusts: an OpenSSH `allowed_signers` file (ssh-keygen(1)).

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::escape;
use crate::signature::PublicKey;

/// A line is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no allowed signer: {problem}")]
pub struct TrustError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// One trusted key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// The host it signs for, percent-encoded as in object keys; `*` for all.
    pub principal: String,
    /// The key.
    pub key: PublicKey,
    /// Begin of its validity.
    pub valid_after: Option<Timestamp>,
    /// End of its validity.
    pub valid_before: Option<Timestamp>,
}

/// All trusted keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKeys(pub Vec<TrustedKey>);

impl TrustedKeys {
    /// Reads an `allowed_signers` file. Lines for other algorithms than Ed25519
    /// are not for hosts, and left out; so are certificate authorities.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |problem: &str| TrustError {
                line: number,
                problem: problem.to_owned(),
            };
            let mut words = Words(line);
            let principals = words.next().ok_or_else(|| wrong("it is empty"))?;
            let mut rest = words.0.trim_start();
            let mut options = "";
            if !is_key_type(rest.split_whitespace().next().unwrap_or_default()) {
                options = words.next().unwrap_or_default();
                rest = words.0.trim_start();
            }
            if rest.is_empty() {
                return Err(wrong("it has no key"));
            }
            if !rest.starts_with("ssh-ed25519 ") || options.contains("cert-authority") {
                continue;
            }
            let key: PublicKey = rest.parse().map_err(|error| TrustError {
                line: number,
                problem: format!("{error}"),
            })?;
            let time = |name| match option(options, name) {
                None => Ok(None),
                Some(text) => parse_time(text).map(Some).ok_or_else(|| wrong("its time")),
            };
            let (valid_after, valid_before) = (time("valid-after")?, time("valid-before")?);
            for principal in principals.trim_matches('"').split(',') {
                keys.push(TrustedKey {
                    principal: principal.to_owned(),
                    key,
                    valid_after,
                    valid_before,
                });
            }
        }
        Ok(Self(keys))
    }

    /// The entries of this key for this host.
    pub(super) fn of<'a>(
        &'a self,
        host_id: &str,
        key: &'a PublicKey,
    ) -> impl Iterator<Item = &'a TrustedKey> {
        let host = escape::percent(host_id, "");
        self.0.iter().filter(move |trusted| {
            (trusted.principal == "*" || trusted.principal == host) && trusted.key == *key
        })
    }
}

impl TrustedKey {
    /// A host's key, valid from `since` until `until`.
    pub fn of_host(
        host_id: &str,
        key: PublicKey,
        since: Timestamp,
        until: Option<Timestamp>,
    ) -> Self {
        Self {
            principal: escape::percent(host_id, ""),
            key,
            valid_after: Some(since),
            valid_before: until,
        }
    }

    /// Whether it is valid at this time.
    pub(super) fn at(&self, time: Timestamp) -> bool {
        self.valid_after.is_none_or(|after| after <= time)
            && self.valid_before.is_none_or(|before| time < before)
    }

    /// Its line in an `allowed_signers` file. Times are UTC: to be read with
    /// `TZ=UTC`, which every OpenSSH that knows them understands.
    pub fn line(&self, comment: &str) -> String {
        let mut options = format!(
            "namespaces=\"{},{},{}\"",
            crate::signature::MANIFEST_NAMESPACE,
            crate::signature::KEY_NAMESPACE,
            crate::signature::DIGEST_NAMESPACE
        );
        for (name, time) in [
            ("valid-after", self.valid_after),
            ("valid-before", self.valid_before),
        ] {
            if let Some(time) = time {
                let utc = time.to_zoned(TimeZone::UTC);
                options.push_str(&format!(",{name}=\"{}\"", utc.strftime("%Y%m%d%H%M%S")));
            }
        }
        format!("{} {options} {} {comment}\n", self.principal, self.key)
    }
}

/// Words at spaces outside quotes.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let mut quoted = false;
        let end = text.find(|c: char| {
            quoted ^= c == '"';
            !quoted && c.is_whitespace()
        });
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"]
        .iter()
        .any(|start| word.starts_with(start))
}

fn option<'a>(options: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = options.split_once(&format!("{name}="))?;
    rest.trim_start_matches('"').split(['"', ',']).next()
}

/// `YYYYMMDD` or `YYYYMMDDHHMM[SS]`, taken as UTC, with or without `Z`.
fn parse_time(text: &str) -> Option<Timestamp> {
    let digits = text.trim_end_matches('Z');
    let whole = match digits.len() {
        8 => format!("{digits}000000"),
        12 => format!("{digits}00"),
        14 => digits.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%S", whole).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::{TrustedKey, TrustedKeys};
    use crate::signature::SigningKey;

    #[test]
    fn lines_come_back() {
        let key = TrustedKey {
            principal: "web-1".to_owned(),
            key: SigningKey::generate().unwrap().public(),
            valid_after: Some("2026-11-21T10:00:07Z".parse().unwrap()),
            valid_before: None,
        };
        let text = format!("# comment\n\n{}", key.line("log 1"));
        assert_eq!(
            TrustedKeys::parse(&text).unwrap().0,
            std::slice::from_ref(&key)
        );
        let plain = format!("a,\"b\" {}\nx ssh-rsa AAAA\n", key.key);
        let keys = TrustedKeys::parse(&plain).unwrap().0;
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[0].principal, "a");
        assert!(TrustedKeys::parse("web-1\n").is_err());
        assert!(TrustedKeys::parse("web-1 ssh-ed25519 AAAA\n").is_err());
    }
}

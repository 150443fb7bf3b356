//! One grant file: its shape, and where in it something is wrong.
//!
//! A file holds one grant, or several under `grants` (`[[grants]]` or
//! `[[grant]]` in TOML) or, in JSON and YAML, as a plain list.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use auditty_recording::session::Grant;
use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{CertificateSelector, GrantRule};

/// A grant file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantFileError {
    /// Which file.
    pub path: PathBuf,
    /// Line, from 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// Column, from 1; 0 when it is about the file as a whole.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl GrantFileError {
    /// About a file as a whole.
    pub fn of_file(path: &Path, message: String) -> Self {
        Self {
            path: path.to_owned(),
            line: 0,
            column: 0,
            message,
        }
    }
}

impl std::fmt::Display for GrantFileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for GrantFileError {}

/// A grant as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGrant {
    #[serde(deserialize_with = "filled")]
    request_id: String,
    #[serde(default)]
    requester: String,
    #[serde(deserialize_with = "filled_list")]
    approvers: Vec<String>,
    #[serde(default)]
    access_flow: String,
    #[serde(default)]
    unix_users: Vec<String>,
    #[serde(default, deserialize_with = "fingerprints")]
    keys: Vec<String>,
    #[serde(default)]
    certificate_ids: Vec<String>,
    #[serde(default)]
    certificates: Vec<CertificateSelector>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    host_labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "moment")]
    valid_from: Option<Timestamp>,
    #[serde(default, deserialize_with = "moment")]
    valid_until: Option<Timestamp>,
    #[serde(default, deserialize_with = "moment")]
    revoked_at: Option<Timestamp>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    ticket: String,
}

impl TryFrom<RawGrant> for GrantRule {
    type Error = String;

    fn try_from(raw: RawGrant) -> Result<Self, String> {
        let ids = raw.certificate_ids.into_iter();
        let by_id = ids.map(|id| CertificateSelector {
            key_id: Some(id),
            ..CertificateSelector::default()
        });
        let rule = Self {
            grant: Grant {
                request_id: raw.request_id,
                requester: raw.requester,
                approvers: raw.approvers,
                access_flow: raw.access_flow,
                reason: raw.reason,
                ticket: raw.ticket,
                valid_from: raw.valid_from,
                valid_until: raw.valid_until,
                revoked_at: raw.revoked_at,
            },
            unix_users: raw.unix_users,
            keys: raw.keys,
            certificates: by_id.chain(raw.certificates).collect(),
            hosts: raw.hosts,
            host_labels: raw.host_labels,
        };
        match rule.fault() {
            Some(fault) => Err(fault),
            None => Ok(rule),
        }
    }
}

impl GrantRule {
    /// What is wrong with it, if anything is.
    pub fn fault(&self) -> Option<String> {
        let Self {
            grant,
            certificates,
            ..
        } = self;
        if grant.request_id.trim().is_empty() {
            return Some("`request_id` must not be empty".into());
        }
        if grant.request_id.chars().any(char::is_control) {
            return Some("`request_id` must not hold control characters".into());
        }
        if grant.approvers.is_empty() || grant.approvers.iter().any(|a| a.trim().is_empty()) {
            return Some("`approvers` must name at least one, and no empty one".into());
        }
        if let Some(key) = self.keys.iter().find(|key| !is_fingerprint(key)) {
            return Some(format!("`keys`: {key:?} {NOT_A_FINGERPRINT}"));
        }
        if self.unix_users.is_empty() && self.keys.is_empty() && certificates.is_empty() {
            return Some(
                "names no login: give `unix_users`, `keys`, `certificates` or `certificate_ids`"
                    .into(),
            );
        }
        if certificates.contains(&CertificateSelector::default()) {
            return Some(
                "an entry of `certificates` is empty: give `key_id`, `serial` or `ca`".into(),
            );
        }
        let authorities = certificates.iter().filter_map(|c| c.ca.as_ref());
        if let Some(ca) = authorities.into_iter().find(|ca| !is_fingerprint(ca)) {
            return Some(format!("`certificates`: {ca:?} {NOT_A_FINGERPRINT}"));
        }
        if let (Some(from), Some(until)) = (grant.valid_from, grant.valid_until)
            && from >= until
        {
            return Some("`valid_until` is not after `valid_from`".into());
        }
        self.excess()
    }
}

/// A file with several grants.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    #[serde(alias = "grant")]
    grants: Vec<GrantRule>,
}

/// The grants of the file at `path` with this text.
pub fn parse(path: &Path, text: &str) -> Result<Vec<GrantRule>, GrantFileError> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let parsed = match extension {
        Some("json") => parse_json(text).map_err(|error| {
            let place = (error.line(), error.column());
            (place, without_place(&error))
        }),
        Some("yaml" | "yml") => parse_yaml(text).map_err(|error| {
            let place = error.location().map(|at| (at.line(), at.column()));
            (place.unwrap_or_default(), without_yaml_place(&error))
        }),
        _ => parse_toml(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            (place(text, start), error.message().to_owned())
        }),
    };
    parsed.map_err(|((line, column), message)| GrantFileError {
        path: path.to_owned(),
        line,
        column,
        message,
    })
}

fn parse_json(text: &str) -> Result<Vec<GrantRule>, serde_json::Error> {
    let shape: serde_json::Value = serde_json::from_str(text)?;
    if shape.is_array() {
        serde_json::from_str(text)
    } else if shape.get("grants").or(shape.get("grant")).is_some() {
        serde_json::from_str(text).map(|Several { grants }| grants)
    } else {
        serde_json::from_str(text).map(|grant| vec![grant])
    }
}

fn parse_yaml(text: &str) -> Result<Vec<GrantRule>, serde_yaml_ng::Error> {
    let shape: serde_json::Value = serde_yaml_ng::from_str(text)?;
    if shape.is_array() {
        serde_yaml_ng::from_str(text)
    } else if shape.get("grants").or(shape.get("grant")).is_some() {
        serde_yaml_ng::from_str(text).map(|Several { grants }| grants)
    } else {
        serde_yaml_ng::from_str(text).map(|grant| vec![grant])
    }
}

fn parse_toml(text: &str) -> Result<Vec<GrantRule>, toml::de::Error> {
    let shape: toml::Table = toml::from_str(text)?;
    if shape.contains_key("grants") || shape.contains_key("grant") {
        toml::from_str(text).map(|Several { grants }| grants)
    } else {
        toml::from_str(text).map(|grant| vec![grant])
    }
}

/// The message of `error` without the place, which is told separately.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// The same for YAML, where a path into the file stands before it.
fn without_yaml_place(error: &serde_yaml_ng::Error) -> String {
    let text = error.to_string();
    let place = error
        .location()
        .map(|at| format!(" at line {} column {}", at.line(), at.column()));
    let told = place.and_then(|place| text.strip_suffix(&place).map(str::to_owned));
    told.unwrap_or(text)
}

/// Line and column, both from 1, of the byte at `offset`.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

fn filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        return Err(D::Error::custom("must not be empty"));
    }
    Ok(text)
}

fn filled_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list = Vec::<String>::deserialize(deserializer)?;
    if list.is_empty() || list.iter().any(|text| text.trim().is_empty()) {
        return Err(D::Error::custom("must name at least one, and no empty one"));
    }
    Ok(list)
}

const NOT_A_FINGERPRINT: &str =
    "is not a fingerprint as `ssh-keygen -l` prints it, such as `SHA256:…`";

fn is_fingerprint(text: &str) -> bool {
    text.strip_prefix("SHA256:")
        .is_some_and(|hash| !hash.is_empty())
}

fn fingerprints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list = Vec::<String>::deserialize(deserializer)?;
    match list.iter().find(|key| !is_fingerprint(key)) {
        Some(key) => Err(D::Error::custom(format!("{key:?} {NOT_A_FINGERPRINT}"))),
        None => Ok(list),
    }
}

/// A moment as RFC 3339 text, or as TOML's own date-time.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a moment such as 2026-01-31T12:00:00Z")]
enum Moment {
    Text(String),
    Toml(toml::value::Datetime),
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = match Moment::deserialize(deserializer)? {
        Moment::Text(text) => text,
        Moment::Toml(datetime) => datetime.to_string(),
    };
    text.parse().map(Some).map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is not a moment with a time zone such as 2026-01-31T12:00:00Z"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    const ONE: &str = r#"
request_id = "REQ-7"
requester = "ann"
approvers = ["bob", "eve"]
access_flow = "break-glass"
keys = ["SHA256:abc"]
hosts = ["web-*"]
valid_from = 2026-01-31T12:00:00Z
valid_until = "2026-01-31T13:00:00+01:00"
reason = "disk full"
ticket = "INC-42"
"#;

    const YAML: &str = "request_id: REQ-7
approvers: [bob]
certificates:
- {serial: 7, ca: SHA256:abc}
host_labels: {env: prod}
valid_until: 2026-01-31T13:00:00Z
revoked_at: \"2026-01-31T12:30:00Z\"
reason: |
  disk full,
  again";

    #[test]
    fn yaml_says_all_of_it() {
        let rule = parse("a.yaml".as_ref(), YAML).unwrap().remove(0);
        assert_eq!(rule.certificates[0].serial, Some(7));
        assert_eq!(rule.host_labels["env"], "prod");
        assert_eq!(rule.grant.reason, "disk full,\nagain");
        let until = rule.grant.valid_until.unwrap().to_string();
        assert_eq!(until, "2026-01-31T13:00:00Z");
        assert!(rule.grant.revoked_at < rule.grant.valid_until);
    }

    fn error(name: &str, text: &str) -> String {
        parse(name.as_ref(), text).unwrap_err().to_string()
    }

    #[test]
    fn one_or_several_in_both_formats() {
        let toml = ONE.replace("13:00:00+01", "14:00:00+01");
        let one = parse("a.toml".as_ref(), &toml).unwrap();
        assert_eq!(one[0].grant.approvers, ["bob", "eve"]);
        assert_eq!(
            one[0].grant.valid_until.unwrap().to_string(),
            "2026-01-31T13:00:00Z"
        );
        let json = r#"{"request_id": "1", "approvers": ["b"], "unix_users": ["root"]}"#;
        for (name, text, count) in [
            ("a.json", json.to_owned(), 1),
            ("a.json", format!("[{json}, {json}]"), 2),
            ("a.json", format!(r#"{{"grants": [{json}]}}"#), 1),
            ("a.toml", format!("[[grant]]{toml}\n[[grant]]{toml}"), 2),
            ("a.toml", format!("[[grants]]{toml}"), 1),
            ("a.json", "[]".to_owned(), 0),
            ("a.yaml", YAML.to_owned(), 1),
            (
                "a.yml",
                format!("grants:\n- {}", YAML.replace('\n', "\n  ")),
                1,
            ),
            (
                "a.yml",
                format!("- {0}\n- {0}", YAML.replace('\n', "\n  ")),
                2,
            ),
            ("a.yaml", json.to_owned(), 1),
        ] {
            assert_eq!(parse(name.as_ref(), &text).unwrap().len(), count, "{text}");
        }
    }

    #[test]
    fn a_grant_has_bounds() {
        let long = "x".repeat(300);
        let many = vec!["\"u\""; 1001].join(",");
        for (text, expected) in [
            (
                format!(r#"{{"request_id": "{long}", "approvers": ["a"], "unix_users": ["u"]}}"#),
                "`request_id` is 300 bytes long",
            ),
            (
                format!(r#"{{"request_id": "1", "approvers": ["a"], "unix_users": [{many}]}}"#),
                "`unix_users` has 1001 entries",
            ),
        ] {
            let message = error("a.json", &text);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn errors_name_file_line_and_column() {
        for (name, text, expected) in [
            (
                "a.toml",
                ONE,
                "a.toml:1:1: `valid_until` is not after `valid_from`",
            ),
            ("a.toml", "request_id = ", "a.toml:1:"),
            (
                "a.toml",
                "request_id = \"\"",
                "a.toml:1:14: must not be empty",
            ),
            (
                "a.toml",
                "request_id = \"1\"\napprovers = []",
                "a.toml:2:13: must name at",
            ),
            (
                "a.toml",
                "request_id = \"1\"\napprover = []",
                "a.toml:2:1: unknown field `approver`",
            ),
            (
                "a.toml",
                "request_id = \"1\"\nvalid_from = 2026-01-31",
                "a.toml:2:14: \"2026-01-31\" is not",
            ),
            (
                "a.json",
                "{\n  \"request_id\": 7}",
                "a.json:2:17: invalid type",
            ),
            (
                "a.json",
                "{\n \"request_id\": \"1\",\n \"bogus\": 1}",
                "a.json:3:8: unknown field `bogus`",
            ),
            (
                "a.json",
                "{\"request_id\": \"1\", \"approvers\": [\"a\"]}",
                "names no login",
            ),
            (
                "a.json",
                "{\"request_id\": \"1\", \"keys\": [\"MD5:0\"]}",
                "not a fingerprint",
            ),
            ("a.json", "", "a.json:1:0: EOF"),
            (
                "a.json",
                r#"{"request_id": "1", "approvers": ["a"], "certificates": [{}]}"#,
                "`certificates` is empty",
            ),
            (
                "a.json",
                r#"{"request_id": "1", "approvers": ["a"], "certificates": [{"ca": "x"}]}"#,
                "\"x\" is not a fingerprint",
            ),
            ("a.yaml", "request_id: 1\napprover: [a]", "a.yaml:2:1: "),
            ("a.yaml", "request_id: a\n  b: c", "a.yaml:2:"),
        ] {
            let message = error(name, text);
            assert!(message.contains(expected), "{message} / {expected}");
        }
    }
}

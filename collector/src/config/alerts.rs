//! `[alerts]`: what is one, and where they go.

use std::{collections::BTreeSet, ops::RangeInclusive, path::PathBuf, time::Duration};

use auditty_proto::filter::Filter;
use serde::Deserialize;

use super::access::Wrong;
use crate::alerts::{
    AlarmError, AlarmSettings, DEFAULT_SILENCE, Rule, RuleText, SnsTarget, SyslogTarget,
    WebhookTarget,
};

/// Less than two reports of an agent, and what is written late, would be noise.
const SILENCE_SECONDS: RangeInclusive<u64> = 16..=86_400;
/// Every command is compared with each.
const MAX_RULES: usize = 200;
/// Longest name of a rule or webhook, bytes.
const MAX_NAME_LEN: usize = 100;
/// Most webhooks.
const MAX_WEBHOOKS: usize = 20;

/// `[alerts]` as it is written; the agent's configuration has the same.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAlerts {
    host_silent_after_seconds: Option<u64>,
    #[serde(default)]
    rules: Vec<RawRule>,
    #[serde(default)]
    webhooks: Vec<RawTarget>,
    syslog: Option<RawSyslog>,
    sns: Option<RawSns>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: String,
    #[serde(default)]
    filter: String,
    pattern: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    name: String,
    url: String,
    secret: Option<PathBuf>,
    ca: Option<PathBuf>,
    #[serde(default)]
    filter: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSyslog {
    address: String,
    #[serde(default)]
    filter: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSns {
    topic: String,
    endpoint_url: Option<String>,
    #[serde(default)]
    filter: String,
}

impl RawAlerts {
    /// What is meant; or which key is wrong, and why.
    pub fn check(self) -> Result<AlarmSettings, (&'static str, String)> {
        let silence = match self.host_silent_after_seconds {
            None => DEFAULT_SILENCE,
            Some(seconds) if SILENCE_SECONDS.contains(&seconds) => Duration::from_secs(seconds),
            Some(_) => {
                let (least, most) = (SILENCE_SECONDS.start(), SILENCE_SECONDS.end());
                let reason = format!("must be {least} to {most}");
                return Err(("alerts.host_silent_after_seconds", reason));
            }
        };
        let rules = self.rules.into_iter().map(RawRule::check);
        let rules: Vec<_> = rules.collect::<Result<_, Wrong>>()?;
        names("alerts.rules.name", rules.iter().map(|rule| &rule.name))?;
        bounded("alerts.rules", rules.len(), MAX_RULES)?;
        let webhooks = self.webhooks.into_iter().map(RawTarget::check);
        let webhooks: Vec<_> = webhooks.collect::<Result<_, Wrong>>()?;
        names("alerts.webhooks.name", webhooks.iter().map(|w| &w.name))?;
        bounded("alerts.webhooks", webhooks.len(), MAX_WEBHOOKS)?;
        let syslog = self.syslog.map(|syslog| {
            let address = syslog.address.parse();
            alert_filter("alerts.syslog.filter", &syslog.filter)?;
            Ok(SyslogTarget {
                address: address.map_err(|reason| ("alerts.syslog.address", reason))?,
                filter: syslog.filter,
            })
        });
        Ok(AlarmSettings {
            silence,
            rules,
            webhooks,
            syslog: syslog.transpose()?,
            sns: self.sns.map(RawSns::check).transpose()?,
        })
    }
}

impl RawRule {
    fn check(self) -> Result<RuleText, Wrong> {
        let Self {
            name,
            filter,
            pattern,
        } = self;
        let empty = pattern.as_ref().map(String::is_empty);
        if empty.unwrap_or(filter.trim().is_empty()) {
            let reason = format!("of {name:?}: must not be empty, or there must be a pattern");
            return Err(("alerts.rules.filter", reason));
        }
        let rule = RuleText {
            name,
            filter,
            pattern,
        };
        match Rule::new(&rule) {
            Ok(_) => Ok(rule),
            Err(error @ AlarmError::Pattern { .. }) => {
                Err(("alerts.rules.pattern", error.to_string()))
            }
            Err(error) => Err(("alerts.rules.filter", error.to_string())),
        }
    }
}

impl RawTarget {
    fn check(self) -> Result<WebhookTarget, Wrong> {
        safe_url("alerts.webhooks.url", &self.url)?;
        alert_filter("alerts.webhooks.filter", &self.filter)?;
        Ok(WebhookTarget {
            name: self.name,
            url: self.url,
            secret: self.secret,
            ca: self.ca,
            filter: self.filter,
        })
    }
}

impl RawSns {
    fn check(self) -> Result<SnsTarget, Wrong> {
        let topic = self.topic.parse();
        if let Some(url) = &self.endpoint_url {
            safe_url("alerts.sns.endpoint_url", url)?;
        }
        alert_filter("alerts.sns.filter", &self.filter)?;
        Ok(SnsTarget {
            topic: topic.map_err(|reason| ("alerts.sns.topic", reason))?,
            endpoint_url: self.endpoint_url,
            filter: self.filter,
        })
    }
}

/// Nobody on the way reads what goes to this URL.
fn safe_url(key: &'static str, url: &str) -> Result<(), Wrong> {
    let url = reqwest::Url::parse(url).ok();
    let local = ["localhost", "127.0.0.1", "[::1]"];
    let safe = url.is_some_and(|url| match url.scheme() {
        "https" => true,
        "http" => url.host_str().is_some_and(|host| local.contains(&host)),
        _ => false,
    });
    match safe {
        true => Ok(()),
        false => {
            let reason = "must be an https:// URL, or http:// on this machine (localhost)";
            Err((key, reason.to_owned()))
        }
    }
}

fn alert_filter(key: &'static str, text: &str) -> Result<(), Wrong> {
    match Filter::alerts(text) {
        Ok(_) => Ok(()),
        Err(error) => Err((key, error.to_string())),
    }
}

/// Names tell them apart, also in the database.
fn names<'a>(key: &'static str, names: impl IntoIterator<Item = &'a String>) -> Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    for name in names {
        let sound = (1..=MAX_NAME_LEN).contains(&name.len()) && !name.contains(char::is_control);
        if !sound || !seen.insert(name) {
            let reason =
                format!("must have 1 to {MAX_NAME_LEN} bytes, and no two may have the same");
            return Err((key, reason));
        }
    }
    Ok(())
}

fn bounded(key: &'static str, count: usize, most: usize) -> Result<(), Wrong> {
    match count <= most {
        true => Ok(()),
        false => Err((key, format!("must be at most {most}"))),
    }
}

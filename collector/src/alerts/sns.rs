//! Alerts to a topic of Amazon SNS: a message each, ten in one request.
//!
//! ```text
//! Message     the alert as canonical proto3 JSON
//! Subject     such as "auditty: ungranted_login on web-1", for mail
//! Attributes  kind, host_id, hostname where it is known, and rule where there is
//!             one: what filter policies of subscriptions compare
//! ```
//!
//! To a FIFO topic a host's alerts are one group, and an alert's id is what tells
//! it from others: what is sent again within five minutes is one message.

use std::{collections::VecDeque, fmt, str::FromStr};

use auditty_proto::{json, names::ShortName, v1};
use auditty_recording::digest::Digest;
use aws_config::{BehaviorVersion, Region, timeout::TimeoutConfig};
use aws_sdk_sns::{
    Client,
    error::{BuildError, DisplayErrorContext, ProvideErrorMetadata},
    types::{BatchResultErrorEntry, MessageAttributeValue, PublishBatchRequestEntry},
};
use tokio::sync::OnceCell;

use super::{
    AlarmError, Destination,
    deliver::{TIMEOUT, Undelivered, Way},
    filter,
};

/// Most messages of one request, and bytes that fit into it beside what is added to
/// them (SNS takes 256 KiB).
const BATCH: usize = 10;
const BATCH_BYTES: usize = 224 << 10;
/// Longest subject, ASCII characters.
const MAX_SUBJECT: usize = 100;

/// The name of a topic: `arn:aws:sns:REGION:ACCOUNT:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    arn: String,
    region: String,
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(arn: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = arn.split(':').collect();
        let plain = |text: &&str| {
            let sound = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !text.is_empty() && text.chars().all(sound)
        };
        match parts[..] {
            ["arn", _, "sns", region, _, _] if parts.iter().all(plain) => Ok(Self {
                arn: arn.to_owned(),
                region: region.to_owned(),
            }),
            _ => Err("must be a topic's name, arn:aws:sns:REGION:ACCOUNT:NAME".to_owned()),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.arn)
    }
}

/// A topic that alerts are published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnsTarget {
    /// Which.
    pub topic: Topic,
    /// Where SNS is, when it is not AWS's of the topic's region.
    pub endpoint_url: Option<String>,
    /// Which alerts, as for ListAlerts.
    pub filter: String,
}

impl SnsTarget {
    pub(super) fn load(&self) -> Result<Destination, AlarmError> {
        let name = format!("sns {}", self.topic);
        Ok(Destination {
            filter: filter(&name, &self.filter)?,
            name,
            way: Way::Sns(Box::new(Sns {
                target: self.clone(),
                client: OnceCell::new(),
            })),
        })
    }
}

/// A topic.
pub(super) struct Sns {
    target: SnsTarget,
    /// Made when it is needed: looking for credentials takes time.
    client: OnceCell<Client>,
}

impl Sns {
    pub(super) async fn send(&self, alerts: &[v1::Alert]) -> Result<(), Undelivered> {
        let client = self.client.get_or_init(|| self.connect()).await;
        let entries = alerts.iter().map(|alert| self.entry(alert));
        let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        let mut refused = None;
        let mut requests = VecDeque::from(batches(entries));
        while let Some(entries) = requests.pop_front() {
            match self.publish(client, entries.clone()).await {
                Ok(of_some) => refused = of_some.or(refused),
                // One that is wrong is not to take the others with it.
                Err(Undelivered::Refused(_)) if entries.len() > 1 => {
                    let alone = entries.into_iter().map(|entry| vec![entry]);
                    requests.extend(alone);
                }
                Err(Undelivered::Refused(reason)) => refused = Some(reason),
                Err(passing) => return Err(passing),
            }
        }
        refused.map_or(Ok(()), |reason| Err(Undelivered::Refused(reason)))
    }

    async fn connect(&self) -> Client {
        let timeouts = TimeoutConfig::builder().operation_timeout(TIMEOUT).build();
        let region = Region::new(self.target.topic.region.clone());
        let shared = aws_config::defaults(BehaviorVersion::latest()).region(region);
        let shared = shared.timeout_config(timeouts).load().await;
        let mut config = aws_sdk_sns::config::Builder::from(&shared);
        if let Some(endpoint) = &self.target.endpoint_url {
            config = config.endpoint_url(endpoint);
        }
        Client::from_conf(config.build())
    }

    /// One request: why some of it was refused, when it was.
    async fn publish(
        &self,
        client: &Client,
        entries: Vec<PublishBatchRequestEntry>,
    ) -> Result<Option<String>, Undelivered> {
        let request = client
            .publish_batch()
            .topic_arn(&self.target.topic.arn)
            .set_publish_batch_request_entries(Some(entries));
        let answer = request.send().await.map_err(|error| {
            // Codes of SNS for what will never be otherwise; that the topic or the
            // permission is missing can be mended.
            let code = error.code().unwrap_or_default();
            let never = [
                "InvalidParameter",
                "ValidationException",
                "BatchRequestTooLong",
            ];
            let text = DisplayErrorContext(&error).to_string();
            match never.iter().any(|never| code.starts_with(never)) {
                true => Undelivered::Refused(text),
                false => Undelivered::Passing(text),
            }
        })?;
        let failed = answer.failed();
        let passing = failed.iter().find(|failed| !failed.sender_fault());
        match passing {
            Some(failed) => Err(Undelivered::Passing(why(failed))),
            None => Ok(failed.first().map(why)),
        }
    }

    fn entry(&self, alert: &v1::Alert) -> Result<PublishBatchRequestEntry, Undelivered> {
        let message = json::to_string(alert).map_err(|e| Undelivered::Refused(e.to_string()))?;
        let kind = alert.kind().short_name();
        let mut entry = PublishBatchRequestEntry::builder()
            .id(&alert.alert_id)
            .subject(subject(&kind, alert))
            .message(message);
        let attributes = [
            ("kind", kind.as_str()),
            ("host_id", &alert.host_id),
            ("hostname", &alert.hostname),
            ("rule", &alert.rule),
        ];
        let unbuilt = |error: BuildError| Undelivered::Refused(error.to_string());
        for (name, value) in attributes.into_iter().filter(|(_, v)| !v.is_empty()) {
            // SNS speaks XML, which has no control characters.
            let value = value.replace(char::is_control, "?");
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value)
                .build();
            entry = entry.message_attributes(name, value.map_err(unbuilt)?);
        }
        if self.target.topic.arn.ends_with(".fifo") {
            // Any text may be a name, not any a group.
            let group = Digest::of(format!("{}/{}", alert.tenant, alert.host_id).as_bytes());
            entry = entry
                .message_group_id(group.to_string())
                .message_deduplication_id(&alert.alert_id);
        }
        entry.build().map_err(unbuilt)
    }
}

/// What SNS takes in one request each.
fn batches(entries: Vec<PublishBatchRequestEntry>) -> Vec<Vec<PublishBatchRequestEntry>> {
    let mut batches: Vec<Vec<_>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let len = entry.message().len();
        match batches.last_mut() {
            Some(last) if last.len() < BATCH && bytes + len <= BATCH_BYTES => {
                bytes += len;
                last.push(entry);
            }
            _ => {
                bytes = len;
                batches.push(vec![entry]);
            }
        }
    }
    batches
}

/// SNS takes printable ASCII here.
fn subject(kind: &str, alert: &v1::Alert) -> String {
    let host = match &*alert.hostname {
        "" => &*alert.host_id,
        name => name,
    };
    let text = format!("auditty: {kind} on {host}");
    let printable = text.chars().map(|c| match c {
        ' '..='~' => c,
        _ => '?',
    });
    printable.take(MAX_SUBJECT).collect()
}

fn why(failed: &BatchResultErrorEntry) -> String {
    let message = failed.message().unwrap_or_default();
    format!("{}: {message}", failed.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_named_by_its_arn() {
        let topic: Topic = "arn:aws-us-gov:sns:us-gov-west-1:123456789012:audit.fifo"
            .parse()
            .unwrap();
        assert_eq!(topic.region, "us-gov-west-1");
        for wrong in [
            "",
            "alerts",
            "arn:aws:sqs:eu-central-1:123456789012:alerts",
            "arn:aws:sns:eu-central-1:123456789012",
            "arn:aws:sns::123456789012:alerts",
            "arn:aws:sns:eu-central-1:123456789012:alerts:subscription",
            "arn:aws:sns:eu/central:123456789012:alerts",
        ] {
            assert!(wrong.parse::<Topic>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_subject_is_ascii_and_short() {
        let alert = v1::Alert {
            hostname: format!("w\u{1b}[2J\n-é{}", "x".repeat(200)),
            ..v1::Alert::default()
        };
        let subject = subject("gap", &alert);
        assert!(
            subject.starts_with("auditty: gap on w?[2J?-?xx"),
            "{subject}"
        );
        assert_eq!(subject.len(), MAX_SUBJECT);
    }

    #[test]
    fn a_request_has_what_sns_takes() {
        let entry = |id: usize, len: usize| {
            let entry = PublishBatchRequestEntry::builder().id(id.to_string());
            entry.message("x".repeat(len)).build().unwrap()
        };
        let lens = [vec![10; 21], vec![BATCH_BYTES - 20, 10, 11]].concat();
        let entries = lens.iter().enumerate().map(|(id, len)| entry(id, *len));
        let batches = batches(entries.collect());
        let counts: Vec<_> = batches.iter().map(Vec::len).collect();
        assert_eq!(counts, [10, 10, 3, 1]);
        let ids = batches.iter().flatten().map(|entry| entry.id().to_owned());
        assert!(ids.eq((0..24).map(|id| id.to_string())));
    }
}

//! Canonical proto3 JSON: lowerCamelCase names, 64-bit integers as strings,
//! RFC 3339 times, enum values by name, default values left out.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage};

use crate::v1;

static POOL: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| {
    DescriptorPool::decode(v1::FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())
});

/// A message could not be written as JSON.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {message} as JSON: {reason}")]
pub struct JsonError {
    message: String,
    reason: String,
}

/// The JSON value of a message of `auditty.v1`.
pub fn to_value<M: Message + Name>(message: &M) -> Result<serde_json::Value, JsonError> {
    let failed = |reason: String| JsonError {
        message: M::full_name(),
        reason,
    };
    let pool = POOL.as_ref().map_err(|error| failed(error.clone()))?;
    let descriptor = pool
        .get_message_by_name(&M::full_name())
        .ok_or_else(|| failed("not part of the schema".to_owned()))?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic
        .transcode_from(message)
        .map_err(|error| failed(error.to_string()))?;
    serde_json::to_value(&dynamic).map_err(|error| failed(error.to_string()))
}

/// The JSON of a message on one line.
pub fn to_string<M: Message + Name>(message: &M) -> Result<String, JsonError> {
    Ok(to_value(message)?.to_string())
}

/// The JSON of a message, indented by two spaces.
pub fn to_string_pretty<M: Message + Name>(message: &M) -> Result<String, JsonError> {
    Ok(format!("{:#}", to_value(message)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> v1::Command {
        v1::Command {
            name: "sessions/x/commands/7".into(),
            seq: u64::MAX,
            start_time: Some(prost_types::Timestamp {
                seconds: 1_767_225_600,
                nanos: 1_500_000,
            }),
            exit_code: Some(0),
            duration: Some(prost_types::Duration {
                seconds: 1,
                nanos: 500_000_000,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn json_is_canonical() {
        assert_eq!(
            to_value(&command()).unwrap(),
            serde_json::json!({
                "name": "sessions/x/commands/7",
                "seq": "18446744073709551615",
                "startTime": "2026-01-01T00:00:00.001500Z",
                "exitCode": 0,
                "duration": "1.500s",
            })
        );
        let session = v1::Session {
            state: v1::SessionState::Active.into(),
            ..Default::default()
        };
        assert_eq!(
            to_string(&session).unwrap(),
            r#"{"state":"SESSION_STATE_ACTIVE"}"#
        );
    }

    #[test]
    fn pretty_and_compact_say_the_same() {
        let pretty = to_string_pretty(&command()).unwrap();
        assert!(pretty.contains("\n  \"seq\": "));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&pretty).unwrap(),
            to_value(&command()).unwrap()
        );
    }

    #[test]
    fn an_impossible_time_is_no_panic() {
        let command = v1::Command {
            start_time: Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: -1,
            }),
            ..Default::default()
        };
        assert!(to_value(&command).is_err());
    }
}

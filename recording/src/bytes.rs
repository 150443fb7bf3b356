//! [`Bytes`]: a byte string that stays readable in JSON.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error, ser::SerializeMap};

/// A lossy text beside the exact bytes helps people and search as long as most
/// of it is text; of a binary it would only be a second, larger copy.
const MOSTLY_TEXT: usize = 4;

/// A byte string that stays readable: `text` when it is valid UTF-8, otherwise
/// `base64` with the exact bytes and, where at least three quarters of it are
/// text, a lossy `text` beside it for people and search. `base64`, when
/// present, is the truth. The empty string has neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

#[derive(Deserialize)]
struct Fields {
    text: Option<String>,
    base64: Option<String>,
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match std::str::from_utf8(&self.0) {
            Ok("") => {}
            Ok(text) => map.serialize_entry("text", text)?,
            Err(_) => {
                if let Some(text) = lossy_text(&self.0) {
                    map.serialize_entry("text", &text)?;
                }
                map.serialize_entry("base64", &BASE64_STANDARD.encode(&self.0))?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Fields { text, base64 } = Fields::deserialize(deserializer)?;
        Self::from_fields(text, base64.as_deref())
            .map_err(|error| D::Error::custom(format!("field `base64`: {error}")))
    }
}

impl Bytes {
    /// The bytes that the two fields of a line stand for.
    pub(crate) fn from_fields(
        text: Option<String>,
        base64: Option<&str>,
    ) -> Result<Self, base64::DecodeError> {
        match base64 {
            Some(exact) => BASE64_STANDARD.decode(exact).map(Self),
            None => Ok(Self(text.unwrap_or_default().into_bytes())),
        }
    }
}

fn lossy_text(bytes: &[u8]) -> Option<String> {
    let invalid: usize = bytes.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    (invalid * MOSTLY_TEXT <= bytes.len()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    fn round_trip(bytes: &[u8]) -> serde_json::Value {
        let json = serde_json::to_value(Bytes(bytes.to_vec())).unwrap();
        assert_eq!(
            serde_json::from_value::<Bytes>(json.clone()).unwrap().0,
            bytes
        );
        json
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(
            round_trip("grün\u{1b}[0m\r\n".as_bytes()),
            serde_json::json!({"text": "grün\u{1b}[0m\r\n"})
        );
        assert_eq!(round_trip(b""), serde_json::json!({}));
    }

    #[test]
    fn mostly_text_keeps_a_lossy_form_beside_the_exact_one() {
        assert_eq!(
            round_trip(b"caf\xe9 latte"),
            serde_json::json!({"text": "caf\u{fffd} latte", "base64": "Y2Fm6SBsYXR0ZQ=="})
        );
    }

    #[test]
    fn binary_is_exact_only() {
        assert_eq!(
            round_trip(b"\xff\xfe\x00\x80"),
            serde_json::json!({"base64": "//4AgA=="})
        );
    }

    #[test]
    fn damaged_base64_is_an_error() {
        assert!(serde_json::from_str::<Bytes>(r#"{"base64": "*"}"#).is_err());
    }
}

//! `[encryption]`: who may read recordings.

use std::fs;

use auditty_recording::encryption::{MAX_RECIPIENTS, Recipient, RecipientError, Recipients};
use toml::Spanned;

use super::error::{ConfigError, Source};
use super::raw::RawEncryption;

/// Who may read recordings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encryption {
    recipients: Option<Recipients>,
}

impl Encryption {
    /// What asks for encryption and cannot have it is refused: an agent never
    /// records in the clear what was meant to be encrypted.
    pub(super) fn check(raw: RawEncryption, source: &Source<'_>) -> Result<Self, ConfigError> {
        const FILE: &str = "encryption.recipients_file";
        let asked = raw.recipients.as_ref().map(Spanned::span);
        let asked = asked.or(raw.recipients_file.as_ref().map(Spanned::span));
        let mut all = keys("encryption.recipients", raw.recipients, source)?;
        if let Some(path) = raw.recipients_file {
            let refused = |problem: String| source.refused(FILE, path.span(), problem);
            let text = fs::read_to_string(path.get_ref())
                .map_err(|error| refused(format!("it cannot be read: {error}")))?;
            let listed = Recipients::parse_list(&text)
                .map_err(|(line, error)| refused(format!("line {line} of it: {error}")))?;
            all.extend(listed);
        }
        let input_span = raw.input_recipients.as_ref().map(Spanned::span);
        let input = keys("encryption.input_recipients", raw.input_recipients, source)?;
        let has_input = !input.is_empty();
        let recipients = Recipients::new(all, input);
        match (&recipients, asked, input_span) {
            (None, _, Some(span)) if has_input => Err(source.rejected(
                "encryption.input_recipients",
                span,
                "this key only together with encryption.recipients or encryption.recipients_file",
            )),
            (None, Some(span), _) => Err(source.refused(
                "encryption",
                span,
                "there is no key in it; leave it out for recordings that are not encrypted"
                    .to_owned(),
            )),
            _ => Ok(Self { recipients }),
        }
    }

    /// Who may read; `None` where nothing is encrypted.
    pub fn recipients(&self) -> Option<&Recipients> {
        self.recipients.as_ref()
    }
}

fn keys(
    key: &str,
    list: Option<Spanned<Vec<Spanned<String>>>>,
    source: &Source<'_>,
) -> Result<Vec<Recipient>, ConfigError> {
    let Some(list) = list else {
        return Ok(Vec::new());
    };
    let (span, list) = (list.span(), list.into_inner());
    if list.len() > MAX_RECIPIENTS {
        return Err(source.refused(key, span, RecipientError::TooMany.to_string()));
    }
    let parsed = |text: Spanned<String>| {
        let refused = |error: RecipientError| source.refused(key, text.span(), error.to_string());
        text.get_ref().parse().map_err(refused)
    };
    list.into_iter().map(parsed).collect()
}

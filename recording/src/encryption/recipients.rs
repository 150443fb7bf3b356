//! Who may read: public keys.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};

use crate::digest::Digest;

/// Most keys that one file is encrypted to: each costs it about 100 to 500 bytes.
pub const MAX_RECIPIENTS: usize = 32;

/// A public key that a recording is encrypted to.
#[derive(Clone)]
pub struct Recipient {
    text: String,
    key: Key,
}

#[derive(Clone)]
enum Key {
    X25519(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
}

/// Why a text is no key to encrypt to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// It has none of the known forms, or is damaged.
    #[error("`{0}` is no public key: give `age1…`, `ssh-ed25519 AAAA…` or `ssh-rsa AAAA…`")]
    Malformed(String),
    /// It is a key, and the secret half of one.
    #[error("this is a private key; a host must only have public ones")]
    Private,
    /// It is a key that nothing can be encrypted to here.
    #[error("a key of the type `{0}` cannot be encrypted to: use ssh-ed25519, ssh-rsa or age1…")]
    Unsupported(String),
    /// An RSA key that is too short or too long.
    #[error("an RSA key has to have 2048 to 4096 bits")]
    RsaSize,
    /// There are too many.
    #[error("more than {MAX_RECIPIENTS} keys")]
    TooMany,
}

impl Recipient {
    /// What people compare: an age key itself, of an SSH key what `ssh-keygen -l`
    /// prints.
    pub fn fingerprint(&self) -> String {
        let blob = match &self.key {
            Key::X25519(_) => return self.text.clone(),
            Key::Ssh(_) => self.text.split_once(' ').map_or("", |(_, blob)| blob),
        };
        let blob = BASE64_STANDARD.decode(blob).unwrap_or_default();
        let digest = BASE64_STANDARD_NO_PAD.encode(Digest::of(&blob).as_bytes());
        format!("SHA256:{digest}")
    }

    pub(super) fn key(&self) -> &dyn age::Recipient {
        match &self.key {
            Key::X25519(key) => key,
            Key::Ssh(key) => key,
        }
    }
}

impl FromStr for Recipient {
    type Err = RecipientError;

    /// Reads a public key; of an SSH key the comment is left out.
    fn from_str(text: &str) -> Result<Self, RecipientError> {
        use age::ssh::ParseRecipientKeyError as Problem;
        let text = text.trim();
        let malformed = || RecipientError::Malformed(text.chars().take(80).collect());
        if text.starts_with("AGE-SECRET-KEY-") || text.starts_with("-----BEGIN") {
            return Err(RecipientError::Private);
        }
        if text.starts_with("age1") {
            let key = text.parse().map_err(|_| malformed())?;
            let (text, key) = (text.to_owned(), Key::X25519(key));
            return Ok(Self { text, key });
        }
        let mut words = text.split_whitespace();
        let (Some(kind), Some(blob)) = (words.next(), words.next()) else {
            return Err(malformed());
        };
        let known = ["ssh-", "ecdsa-", "sk-"].iter();
        if !known.clone().any(|prefix| kind.starts_with(prefix)) {
            return Err(malformed());
        }
        let text = format!("{kind} {blob}");
        match text.parse() {
            Ok(key) => Ok(Self {
                text,
                key: Key::Ssh(key),
            }),
            Err(Problem::Unsupported(kind)) => Err(RecipientError::Unsupported(kind)),
            Err(Problem::RsaModulusTooLarge | Problem::RsaModulusTooSmall) => {
                Err(RecipientError::RsaSize)
            }
            Err(_) if kind != "ssh-ed25519" && kind != "ssh-rsa" => {
                Err(RecipientError::Unsupported(kind.to_owned()))
            }
            Err(_) => Err(malformed()),
        }
    }
}

/// The key as text, without a comment.
impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

/// Who may read a host's recordings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipients {
    all: Vec<Recipient>,
    input: Vec<Recipient>,
}

impl Recipients {
    /// `all` may read; with `input`, only these may read what was typed. `None`
    /// without anybody in `all`.
    pub fn new(all: Vec<Recipient>, input: Vec<Recipient>) -> Option<Self> {
        (!all.is_empty()).then_some(Self { all, input })
    }

    /// Reads keys, one a line; empty lines and lines that begin with `#` are left
    /// out, as `age -R` does.
    ///
    /// # Errors
    /// Number of the line, from 1, and what is wrong with it.
    pub fn parse_list(text: &str) -> Result<Vec<Recipient>, (usize, RecipientError)> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let keys = keys.map(|(number, line)| line.parse().map_err(|error| (number, error)));
        let keys: Vec<Recipient> = keys.collect::<Result<_, _>>()?;
        match keys.len() > MAX_RECIPIENTS {
            true => Err((text.lines().count(), RecipientError::TooMany)),
            false => Ok(keys),
        }
    }

    /// Who may read all but the input, or all.
    pub fn all(&self) -> &[Recipient] {
        &self.all
    }

    /// Who may read the input, where these are not the same; else empty.
    pub fn input(&self) -> &[Recipient] {
        &self.input
    }

    /// The keys as text: of all, and of the input.
    pub fn texts(&self) -> (Vec<String>, Vec<String>) {
        let texts = |keys: &[Recipient]| keys.iter().map(ToString::to_string).collect();
        (texts(&self.all), texts(&self.input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";

    #[test]
    fn keys_are_read_without_comments_and_have_the_usual_fingerprint() {
        let key: Recipient = format!("{ED25519} alice@example.com\n").parse().unwrap();
        assert_eq!(key.to_string(), ED25519);
        assert!(key.fingerprint().starts_with("SHA256:"));
        let age = age::x25519::Identity::generate().to_public().to_string();
        let key: Recipient = age.parse().unwrap();
        assert_eq!((key.to_string(), key.fingerprint()), (age.clone(), age));
    }

    #[test]
    fn what_is_no_public_key_is_refused_with_a_reason() {
        let refused = |text: &str| text.parse::<Recipient>().unwrap_err();
        assert_eq!(refused("AGE-SECRET-KEY-1ABC"), RecipientError::Private);
        assert_eq!(
            refused("-----BEGIN OPENSSH PRIVATE KEY-----"),
            RecipientError::Private
        );
        for text in [
            "",
            "age1",
            "age1qqqq",
            "alice",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
        ] {
            assert!(
                matches!(refused(text), RecipientError::Malformed(_)),
                "{text}"
            );
        }
        let ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTY=";
        assert!(matches!(refused(ecdsa), RecipientError::Unsupported(_)));
    }

    #[test]
    fn a_list_names_the_line_that_is_wrong() {
        let list = format!("# auditors\n\n{ED25519} a\n");
        assert_eq!(Recipients::parse_list(&list).unwrap().len(), 1);
        let (line, _) = Recipients::parse_list(&format!("{list}nonsense")).unwrap_err();
        assert_eq!(line, 4);
    }
}

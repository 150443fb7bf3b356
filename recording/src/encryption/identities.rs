//! Who reads: private keys.

use std::io::{BufRead, Read};
use std::sync::Arc;

use age::secrecy::SecretString;

use crate::chunk::ChunkError;

/// Why a file has no key to read with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It has none of the known forms.
    #[error(
        "there is no private key in it: give a file of `age-keygen` or an OpenSSH private key (ssh-ed25519, ssh-rsa)"
    )]
    Malformed,
    /// A line of an age identity file is damaged.
    #[error("line {0} is no age identity")]
    Line(usize),
    /// A plugin would have to be asked.
    #[error(
        "keys behind plugins and hardware keys are not read here: decrypt the chunks with `age -d`"
    )]
    Plugin,
    /// The file itself is encrypted with a passphrase.
    #[error("the file is encrypted itself: `age -d` it first")]
    EncryptedFile,
    /// The SSH key has a passphrase, and nobody to ask for it.
    #[error(
        "the SSH key has a passphrase: decrypt the chunks with `age -d`, or run this in a terminal"
    )]
    Passphrase,
    /// The passphrase is wrong.
    #[error("the passphrase does not open the SSH key")]
    WrongPassphrase,
    /// An SSH key of another type or format.
    #[error("an SSH key of this kind is not read: {0}")]
    Unsupported(String),
}

/// Private keys that open what is encrypted to their public halves; by default
/// none.
#[derive(Clone, Default)]
pub struct Identities(Vec<Arc<dyn age::Identity + Send + Sync>>);

/// Nothing of a key is ever printed.
impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} identities", self.0.len())
    }
}

impl Identities {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the keys of a file: age identities, one a line, or an OpenSSH private
    /// key. `ask` is called for the passphrase of one that has one.
    ///
    /// # Errors
    /// There is no key in it that can be used.
    pub fn add(
        &mut self,
        file: &str,
        ask: impl FnOnce() -> Option<String>,
    ) -> Result<(), IdentityError> {
        if file.starts_with("age-encryption.org/") || file.starts_with("-----BEGIN AGE ENCRYPTED") {
            return Err(IdentityError::EncryptedFile);
        }
        if file.trim_start().starts_with("-----BEGIN") {
            self.0.push(Arc::new(ssh(file, ask)?));
            return Ok(());
        }
        let lines = (1..).zip(file.lines().map(str::trim));
        let mut found = false;
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with("AGE-PLUGIN-") {
                return Err(IdentityError::Plugin);
            }
            let is_key = line.starts_with("AGE-SECRET-KEY-");
            let key: age::x25519::Identity = match (line.parse(), is_key || found) {
                (Ok(key), _) => key,
                (Err(_), true) => return Err(IdentityError::Line(number)),
                (Err(_), false) => return Err(IdentityError::Malformed),
            };
            self.0.push(Arc::new(key));
            found = true;
        }
        found.then_some(()).ok_or(IdentityError::Malformed)
    }

    /// The content of an age file.
    ///
    /// # Errors
    /// [`ChunkError::Locked`] when none of the keys opens it, or it is no age
    /// file, or damaged.
    pub fn open<R: BufRead>(&self, file: R) -> Result<impl Read + use<R>, ChunkError> {
        use age::DecryptError as Problem;
        let problem = |error: Problem| match error {
            Problem::NoMatchingKeys => ChunkError::Locked,
            Problem::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                ChunkError::Encryption("its header is cut off".to_owned())
            }
            other => ChunkError::Encryption(other.to_string()),
        };
        let file = age::Decryptor::new_buffered(file).map_err(problem)?;
        let keys = self.0.iter().map(|key| &**key as &dyn age::Identity);
        file.decrypt(keys).map_err(problem)
    }
}

fn ssh(
    file: &str,
    ask: impl FnOnce() -> Option<String>,
) -> Result<age::ssh::Identity, IdentityError> {
    use age::ssh::{Identity, UnsupportedKey};
    let identity = Identity::from_buffer(file.trim_start().as_bytes(), None);
    match identity.map_err(|_| IdentityError::Malformed)? {
        Identity::Encrypted(key) => {
            let passphrase = ask().ok_or(IdentityError::Passphrase)?;
            let key = key.decrypt(SecretString::from(passphrase));
            key.map(Identity::from)
                .map_err(|_| IdentityError::WrongPassphrase)
        }
        Identity::Unsupported(UnsupportedKey::Hardware(_)) => Err(IdentityError::Plugin),
        Identity::Unsupported(UnsupportedKey::Type(kind)) => Err(IdentityError::Unsupported(kind)),
        Identity::Unsupported(_) => Err(IdentityError::Unsupported(
            "its file has an old encryption; `ssh-keygen -p -f FILE` writes it anew".to_owned(),
        )),
        key @ Identity::Unencrypted(_) => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::encryption::encrypt;

    fn keys() -> (String, String) {
        use age::secrecy::ExposeSecret as _;
        let key = age::x25519::Identity::generate();
        let secret = key.to_string().expose_secret().to_owned();
        (secret, key.to_public().to_string())
    }

    #[test]
    fn who_has_a_key_reads_and_others_are_told_that_it_is_locked() {
        let ((secret, public), (other, _)) = (keys(), keys());
        let to = [public.parse().unwrap()];
        let file = encrypt(&to, |to| to.write_all(b"secret words")).unwrap();
        assert!(!file.windows(6).any(|part| part == b"secret"));
        let mut owner = Identities::default();
        owner.add(&format!("# mine\n{secret}\n"), || None).unwrap();
        let mut text = String::new();
        let mut opened = owner.open(file.as_slice()).unwrap();
        opened.read_to_string(&mut text).unwrap();
        assert_eq!(text, "secret words");
        let mut stranger = Identities::default();
        stranger.add(&other, || None).unwrap();
        for nobody in [stranger, Identities::default()] {
            let opened = nobody.open(file.as_slice()).map(|_| ());
            assert!(matches!(opened, Err(ChunkError::Locked)));
        }
        let torn = owner.open(&file[..20]).map(|_| ());
        assert!(matches!(torn, Err(ChunkError::Encryption(_))));
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_reason() {
        let refused = |file: &str| Identities::default().add(file, || None).unwrap_err();
        assert!(matches!(refused(""), IdentityError::Malformed));
        assert!(matches!(
            refused("ssh-ed25519 AAAA"),
            IdentityError::Malformed
        ));
        assert!(matches!(
            refused("AGE-SECRET-KEY-1QQ"),
            IdentityError::Line(1)
        ));
        assert!(matches!(
            refused("age-encryption.org/v1\n"),
            IdentityError::EncryptedFile
        ));
        assert!(matches!(
            refused("AGE-PLUGIN-YUBIKEY-1"),
            IdentityError::Plugin
        ));
    }
}

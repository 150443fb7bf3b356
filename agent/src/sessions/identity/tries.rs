//! What sshd refused before it let somebody in, or did not.

use auditty_recording::session::AuthMethod;
use serde::{Deserialize, Serialize};

use super::wire::{Key, Reader};

/// Different keys that are told. A client that offers more is refused by sshd
/// itself, unless it is set up for that.
pub(crate) const MAX_KEYS: usize = 8;

/// `MM_HOSTKEY` (OpenSSH monitor_wrap.h): the key of a host that vouches.
const HOST_KEY: u32 = 1;

/// How often sshd refused what, and which keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tries {
    /// How often each method failed, in the order of the first failure.
    pub failures: Vec<(AuthMethod, u64)>,
    /// Fingerprints of refused keys, the first ones.
    pub keys: Vec<String>,
    /// There is no such user, or one who may not log in. sshd then refuses keys
    /// without a question to anybody.
    pub user_refused: bool,
    /// A password, an answer or a signature was wrong: more than keys that were
    /// only offered, as clients do with all that they have.
    pub proof_failed: bool,
}

/// A key that a client offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offer {
    method: AuthMethod,
    fingerprint: Option<String>,
}

impl Offer {
    pub(super) fn read(mut body: Reader<'_>) -> Option<Self> {
        let of_host = body.u32()? == HOST_KEY;
        let (_user, _host) = (body.string()?, body.string()?);
        let key = body.string().and_then(Key::decode);
        let certified = key.as_ref().is_some_and(|key| key.certificate.is_some());
        Some(Self {
            method: match (of_host, certified) {
                (true, _) => AuthMethod::HostBased,
                (_, true) => AuthMethod::Certificate,
                _ => AuthMethod::PublicKey,
            },
            fingerprint: key.map(|key| key.fingerprint),
        })
    }
}

impl Tries {
    /// Nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.failures.is_empty() && !self.user_refused
    }

    pub(super) fn fail(&mut self, method: AuthMethod) {
        self.proof_failed = true;
        self.add(method, 1);
    }

    pub(super) fn judge_user(&mut self, mut answer: Reader<'_>) {
        self.user_refused |= answer.u8() == Some(0);
    }

    pub(super) fn judge_query(&mut self, mut answer: Reader<'_>) {
        if answer.u32().is_some_and(|more| more != 0) {
            self.fail(AuthMethod::KeyboardInteractive);
        }
    }

    pub(super) fn judge_offer(&mut self, offer: Option<Offer>, mut answer: Reader<'_>) {
        if answer.u32() != Some(0) {
            return;
        }
        let method = offer.as_ref().map_or(AuthMethod::Unknown, |o| o.method);
        self.add(method, 1);
        self.keep(offer.and_then(|offer| offer.fingerprint));
    }

    /// What failed elsewhere, too.
    pub(crate) fn merge(&mut self, other: Self) {
        self.user_refused |= other.user_refused;
        self.proof_failed |= other.proof_failed;
        for (method, times) in other.failures {
            self.add(method, times);
        }
        self.keep(other.keys);
    }

    fn add(&mut self, method: AuthMethod, times: u64) {
        match self.failures.iter_mut().find(|(of, _)| *of == method) {
            Some((_, count)) => *count = count.saturating_add(times),
            None => self.failures.push((method, times)),
        }
    }

    fn keep(&mut self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            if self.keys.len() < MAX_KEYS && !self.keys.contains(&key) {
                self.keys.push(key);
            }
        }
    }
}

//! Who logged in, from sshd's privilege-separation monitor protocol.
//!
//! sshd's unprivileged pre-auth child asks the monitor, and the monitor's
//! answers are the verdicts (OpenSSH `monitor.h`, `monitor.c`; unchanged from
//! 9.2 to 10.0):
//!
//! | type | from | body |
//! |---|---|---|
//! | 8 `REQ_PWNAM` | child | string user |
//! | 9 `ANS_PWNAM` | monitor | u8, 0 = no such user, or one who may not log in, … |
//! | 22 `REQ_KEYALLOWED` | child | u32 type (1 = of a host), string user, string host, string key, … |
//! | 23 `ANS_KEYALLOWED` | monitor | u32, 0 = refused, … |
//! | 24 `REQ_KEYVERIFY` | child | string key, string signature, string signed data |
//! | 25 `ANS_KEYVERIFY` | monitor | u32, 0 = verified |
//! | 13 `ANS_AUTHPASSWORD` | monitor | u32, 1 = right, … |
//! | 47 `ANS_GSSUSEROK` | monitor | u32, 1 = authenticated |
//! | 107 `ANS_PAM_QUERY` | monitor | u32, 0 = there is more to ask, … |
//! | 109 `ANS_PAM_RESPOND` | monitor | u32, 0 = authenticated, 1 = goes on |
//!
//! After the login a user can make sshd write chosen bytes to a socket, so the
//! identity freezes when the pre-auth child exits or the first session begins.

#[cfg(test)]
mod tests;
mod tries;
mod wire;

use auditty_recording::session::{AuthMethod, ClientHost, Confidence, Evidence, Login};
use serde::{Deserialize, Serialize};

use crate::capture::event::MonitorMessage;
use tries::Offer;
pub use tries::Tries;
use wire::{Key, Reader, printable};

const REQ_PWNAM: u8 = 8;
const ANS_PWNAM: u8 = 9;
const ANS_AUTHPASSWORD: u8 = 13;
const REQ_KEYALLOWED: u8 = 22;
const ANS_KEYALLOWED: u8 = 23;
const REQ_KEYVERIFY: u8 = 24;
const ANS_KEYVERIFY: u8 = 25;
const ANS_GSSUSEROK: u8 = 47;
const ANS_PAM_QUERY: u8 = 107;
const ANS_PAM_RESPOND: u8 = 109;
/// What PAM's device answers when it refuses (`sshpam_respond`, auth-pam.c): -1.
const PAM_REFUSED: u32 = u32::MAX;

/// Message number of a signed authentication request (RFC 4252 §6).
const SSH2_MSG_USERAUTH_REQUEST: u8 = 50;

/// Names of unix users.
pub trait UserNames {
    /// Name of the user with this id.
    fn name(&self, uid: u32) -> Option<String>;
    /// Id of the user with this name.
    fn uid(&self, name: &str) -> Option<u32>;
}

/// The users the system knows (`getpwuid`, `getpwnam`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemUsers;

impl UserNames for SystemUsers {
    fn name(&self, uid: u32) -> Option<String> {
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        user.map(|user| user.name)
    }

    fn uid(&self, name: &str) -> Option<u32> {
        let user = nix::unistd::User::from_name(name).ok().flatten();
        user.map(|user| user.uid.as_raw())
    }
}

/// What is known of a connection's login.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Process that asks: the pre-auth child, known by its first question.
    child: Option<u32>,
    user: Option<String>,
    /// A key that was offered with a signature, not yet judged.
    candidate: Option<Candidate>,
    method: Option<AuthMethod>,
    /// The key of the last key that was verified. With several factors it stays
    /// beside the last method.
    key: Option<Key>,
    /// The host that vouched, when that was the last to be verified.
    #[serde(default)]
    client_host: Option<ClientHost>,
    /// A key that was offered, not yet judged.
    #[serde(default)]
    offer: Option<Offer>,
    #[serde(default)]
    tries: Tries,
    frozen: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Candidate {
    method: AuthMethod,
    key: Key,
    /// Who the client's host says it is: its name, and the user there.
    #[serde(default)]
    client: Option<(String, String)>,
}

impl Identity {
    /// Takes a message that `sender` wrote on the connection whose monitor is
    /// `monitor`. Returns whether it still counted.
    pub(super) fn observe(&mut self, monitor: u32, sender: u32, message: &MonitorMessage) -> bool {
        if self.frozen {
            return false;
        }
        let from_monitor = sender == monitor;
        let body = Reader(&message.body);
        match message.kind {
            REQ_PWNAM if !from_monitor && self.child.is_none() => {
                self.child = Some(sender);
                self.user = user(body);
            }
            ANS_PWNAM if from_monitor => self.tries.judge_user(body),
            REQ_KEYALLOWED if self.child == Some(sender) => self.offer = Offer::read(body),
            ANS_KEYALLOWED if from_monitor => self.tries.judge_offer(self.offer.take(), body),
            REQ_KEYVERIFY if self.child == Some(sender) => self.candidate = candidate(body),
            ANS_KEYVERIFY if from_monitor => self.judge_key(body),
            ANS_AUTHPASSWORD if from_monitor => self.judge(body, 1, AuthMethod::Password),
            ANS_GSSUSEROK if from_monitor => self.judge(body, 1, AuthMethod::Gssapi),
            ANS_PAM_QUERY if from_monitor => self.tries.judge_query(body),
            ANS_PAM_RESPOND if from_monitor => self.judge_response(body),
            _ => {}
        }
        true
    }

    fn judge_key(&mut self, mut answer: Reader<'_>) {
        let candidate = self.candidate.take();
        if answer.u32() != Some(0) {
            let method = candidate.map_or(AuthMethod::Unknown, |candidate| candidate.method);
            self.tries.fail(method);
            return;
        }
        // A verified key that could not be decoded is still the last success.
        self.method = Some(candidate.as_ref().map_or(AuthMethod::Unknown, |c| c.method));
        (self.key, self.client_host) = match candidate {
            Some(Candidate {
                client: Some((name, user)),
                key,
                ..
            }) => {
                let key_fingerprint = key.fingerprint;
                (
                    None,
                    Some(ClientHost {
                        name,
                        user,
                        key_fingerprint,
                    }),
                )
            }
            // Its key is no person's.
            Some(candidate) if candidate.method == AuthMethod::HostBased => (None, None),
            candidate => (candidate.map(|candidate| candidate.key), None),
        };
    }

    fn judge(&mut self, mut answer: Reader<'_>, success: u32, method: AuthMethod) {
        match answer.u32() {
            Some(verdict) if verdict == success => self.method = Some(method),
            Some(_) => self.tries.fail(method),
            None => {}
        }
    }

    fn judge_response(&mut self, mut answer: Reader<'_>) {
        match answer.u32() {
            Some(0) => self.method = Some(AuthMethod::KeyboardInteractive),
            Some(PAM_REFUSED) => self.tries.fail(AuthMethod::KeyboardInteractive),
            _ => {}
        }
    }

    /// The user the client wanted to be, in its own words; `None` where it has
    /// named nobody.
    pub(super) fn wanted(&self) -> Option<&str> {
        self.child?;
        Some(self.user.as_deref().unwrap_or_default())
    }

    /// Whether a way to log in was good.
    pub(super) fn is_proven(&self) -> bool {
        self.method.is_some()
    }

    /// What did not let it in.
    pub(super) fn tries(&self) -> &Tries {
        &self.tries
    }

    /// Nothing counts any more.
    pub(super) fn freeze(&mut self) {
        self.frozen = true;
    }

    /// A process of the connection ended. Returns whether it was the pre-auth
    /// child.
    pub(super) fn process_ended(&mut self, pid: u32) -> bool {
        let asked = self.child == Some(pid);
        self.frozen |= asked;
        asked
    }

    /// Whether somebody asks to be let in.
    pub(super) fn is_asked(&self) -> bool {
        self.child.is_some() && !self.frozen
    }

    /// Whether the monitor only watches another process, which serves the user.
    /// Root it serves itself.
    pub(super) fn is_monitored(&self, users: &dyn UserNames) -> bool {
        let user = self.user.as_ref().filter(|_| self.child.is_some());
        user.and_then(|user| users.uid(user))
            .is_some_and(|uid| uid != 0)
    }

    /// The login of a session whose own process runs as `uid`, where that is
    /// known by now. Names are cross-checked: where sshd's word and the kernel's
    /// user id disagree, only the user id counts.
    pub(super) fn login(&self, trusted: bool, uid: Option<u32>, users: &dyn UserNames) -> Login {
        let by_uid = |evidence, confidence| Login {
            user: uid.and_then(|uid| users.name(uid)).unwrap_or_default(),
            uid,
            evidence,
            confidence,
            ..Login::default()
        };
        if !trusted {
            return by_uid(Evidence::UntrustedServer, Confidence::Low);
        }
        let weak = || match uid {
            Some(_) => by_uid(Evidence::ProcessUid, Confidence::Medium),
            None => Login::default(),
        };
        let (Some(user), Some(method)) = (&self.user, self.method) else {
            return weak();
        };
        let confidence = match (uid, users.uid(user)) {
            (Some(uid), Some(named)) if uid != named => return weak(),
            (Some(_), Some(_)) => Confidence::High,
            _ => Confidence::Medium,
        };
        Login {
            user: user.clone(),
            uid,
            method,
            key_fingerprint: self.key.as_ref().map(|key| key.fingerprint.clone()),
            key_type: self.key.as_ref().map(|key| key.key_type.clone()),
            certificate: self.key.as_ref().and_then(|key| key.certificate.clone()),
            client_host: self.client_host.clone().map(Box::new),
            evidence: Evidence::SshdMonitor,
            confidence,
        }
    }
}

fn user(mut body: Reader<'_>) -> Option<String> {
    let name = body.string()?;
    (!name.is_empty()).then(|| printable(name))
}

/// The key and the method it was signed for. The signed data comes last and may
/// be cut; the method stands near its beginning.
fn candidate(mut body: Reader<'_>) -> Option<Candidate> {
    let key = Key::decode(body.string()?)?;
    let _signature = body.string()?;
    let mut signed = Reader(body.string_start()?);
    let _session_id = signed.string()?;
    if signed.u8()? != SSH2_MSG_USERAUTH_REQUEST {
        return None;
    }
    let _user = signed.string()?;
    let _service = signed.string()?;
    let method = match (signed.string()?, &key.certificate) {
        (b"hostbased", _) => AuthMethod::HostBased,
        (b"publickey" | b"publickey-hostbound-v00@openssh.com", None) => AuthMethod::PublicKey,
        (b"publickey" | b"publickey-hostbound-v00@openssh.com", Some(_)) => AuthMethod::Certificate,
        _ => return None,
    };
    let client = match method {
        AuthMethod::HostBased => client(signed),
        _ => None,
    };
    Some(Candidate {
        method,
        key,
        client,
    })
}

/// What stands behind the method of a host-based request (RFC 4252 §9).
fn client(mut signed: Reader<'_>) -> Option<(String, String)> {
    let (_algorithm, _key) = (signed.string()?, signed.string()?);
    let (name, user) = (signed.string()?, signed.string()?);
    Some((printable(name), printable(user)))
}

//! Monitor messages around real keys and certificates, made by ssh-keygen.

use std::path::Path;
use std::process::Command;

use auditty_recording::session::{AuthMethod, Confidence, Evidence, Login};
use base64::{Engine, prelude::BASE64_STANDARD};

use super::wire::{Key, string};
use super::{Identity, UserNames};
use crate::capture::event::MonitorMessage;

const MONITOR: u32 = 100;
const CHILD: u32 = 101;

struct Users;

impl UserNames for Users {
    fn name(&self, uid: u32) -> Option<String> {
        [(0, "root"), (1000, "alice"), (1001, "mallory")]
            .iter()
            .find(|user| user.0 == uid)
            .map(|user| user.1.to_owned())
    }

    fn uid(&self, name: &str) -> Option<u32> {
        [0, 1000, 1001]
            .into_iter()
            .find(|uid| self.name(*uid).as_deref() == Some(name))
    }
}

fn keygen(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("ssh-keygen")
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn blob(path: impl AsRef<Path>) -> Vec<u8> {
    let text = std::fs::read(path).unwrap();
    let field = text.split(|b| *b == b' ').nth(1).unwrap();
    BASE64_STANDARD.decode(field).unwrap()
}

fn listed(dir: &Path, file: &str) -> String {
    let line = keygen(dir, &["-l", "-f", file]);
    line.split(' ').nth(1).unwrap().to_owned()
}

fn message(kind: u8, body: Vec<u8>) -> MonitorMessage {
    MonitorMessage {
        kind,
        len: body.len() as u32,
        body,
    }
}

fn verify(key: &[u8], method: &str) -> MonitorMessage {
    let of_host = method == "hostbased";
    let signed = [
        string(b"session id"),
        vec![50],
        string(b"alice"),
        string(b"ssh-connection"),
        string(method.as_bytes()),
        if of_host { vec![] } else { vec![1] },
        string(b"ssh-ed25519"),
        string(key),
        if of_host {
            string(b"desk.example.com")
        } else {
            vec![]
        },
        if of_host { string(b"al\xff") } else { vec![] },
    ]
    .concat();
    let body = [
        string(key),
        string(b"signature"),
        string(&signed),
        string(b""),
    ]
    .concat();
    message(24, body)
}

fn word(kind: u8, value: u32) -> MonitorMessage {
    message(kind, value.to_be_bytes().to_vec())
}

fn pwnam(user: &str) -> MonitorMessage {
    message(8, string(user.as_bytes()))
}

fn after(messages: &[(u32, MonitorMessage)]) -> Identity {
    let mut identity = Identity::default();
    for (sender, message) in messages {
        identity.observe(MONITOR, *sender, message);
    }
    identity
}

fn alice(identity: &Identity) -> Login {
    identity.login(true, Some(1000), &Users)
}

#[test]
fn keys_and_certificates_of_every_type() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    keygen(at, &["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
    for (kind, bits, plain) in [
        ("ed25519", "256", "ssh-ed25519"),
        ("rsa", "2048", "ssh-rsa"),
        ("ecdsa", "256", "ecdsa-sha2-nistp256"),
        ("ecdsa", "384", "ecdsa-sha2-nistp384"),
        ("ecdsa", "521", "ecdsa-sha2-nistp521"),
    ] {
        let name = format!("{kind}{bits}");
        keygen(at, &["-q", "-t", kind, "-b", bits, "-N", "", "-f", &name]);
        let public = format!("{name}.pub");
        let sign = [
            "-q",
            "-s",
            "ca",
            "-I",
            "alice@corp ticket=7",
            "-n",
            "alice,root",
            "-z",
            "4711",
        ];
        let when = ["-V", "20260101000000Z:20270101000000Z", &public];
        keygen(at, &[&sign[..], &when[..]].concat());

        let key = Key::decode(&blob(at.join(&public))).unwrap();
        assert_eq!(key.fingerprint, listed(at, &public));
        assert_eq!((key.key_type.as_str(), &key.certificate), (plain, &None));

        let signed = Key::decode(&blob(at.join(format!("{name}-cert.pub")))).unwrap();
        let certificate = signed.certificate.unwrap();
        assert_eq!(signed.fingerprint, key.fingerprint, "{kind}");
        assert_eq!(signed.key_type, plain);
        assert_eq!(certificate.key_id, "alice@corp ticket=7");
        assert_eq!(certificate.serial, 4711);
        assert_eq!(certificate.ca_fingerprint, listed(at, "ca.pub"));
        assert_eq!(certificate.principals, ["alice", "root"]);
        assert_eq!(
            certificate.valid_after.unwrap().to_string(),
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(
            certificate.valid_before.unwrap().to_string(),
            "2027-01-01T00:00:00Z"
        );
    }
}

#[test]
fn security_keys_keep_their_application_in_the_fingerprint() {
    for (plain, cert, fields) in [
        (
            "sk-ssh-ed25519@openssh.com",
            "sk-ssh-ed25519-cert-v01@openssh.com",
            2,
        ),
        (
            "sk-ecdsa-sha2-nistp256@openssh.com",
            "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
            3,
        ),
    ] {
        let own: Vec<u8> = (0..fields)
            .flat_map(|n| string(format!("field {n}").as_bytes()))
            .collect();
        let key = Key::decode(&[string(plain.as_bytes()), own.clone()].concat()).unwrap();
        let blob = [
            string(cert.as_bytes()),
            string(b"nonce"),
            own,
            7u64.to_be_bytes().to_vec(),
            1u32.to_be_bytes().to_vec(),
            string(b"id"),
            string(&string(b"alice")),
            0u64.to_be_bytes().to_vec(),
            u64::MAX.to_be_bytes().to_vec(),
            string(b""),
            string(b""),
            string(b""),
            string(b"ca"),
            string(b"signature"),
        ]
        .concat();
        let signed = Key::decode(&blob).unwrap();
        assert_eq!(signed.fingerprint, key.fingerprint);
        let certificate = signed.certificate.unwrap();
        assert_eq!(
            (certificate.valid_after, certificate.valid_before),
            (None, None)
        );
    }
}

#[test]
fn hostile_key_ids_change_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    keygen(at, &["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
    keygen(at, &["-q", "-t", "ed25519", "-N", "", "-f", "user"]);
    let long = "K".repeat(1200);
    for id in [
        "alice (serial 999) CA ED25519 SHA256:TRUSTED",
        "m\nAccepted publickey for root from 10.0.0.1 port 1 ssh2",
        "e\u{1b}[2J",
        &long,
    ] {
        keygen(
            at,
            &[
                "-q", "-s", "ca", "-I", id, "-n", "root", "-z", "7", "user.pub",
            ],
        );
        let key = blob(at.join("user-cert.pub"));
        let identity = after(&[
            (CHILD, pwnam("alice")),
            (CHILD, verify(&key, "publickey-hostbound-v00@openssh.com")),
            (MONITOR, word(25, 0)),
        ]);
        let login = alice(&identity);
        assert_eq!(login.method, AuthMethod::Certificate);
        assert_eq!(login.key_fingerprint.unwrap(), listed(at, "user.pub"));
        let certificate = login.certificate.unwrap();
        assert_eq!((certificate.key_id.as_str(), certificate.serial), (id, 7));
        assert_eq!(certificate.ca_fingerprint, listed(at, "ca.pub"));
        assert_eq!(
            (certificate.valid_after, certificate.valid_before),
            (None, None)
        );
    }
}

#[test]
fn a_key_id_that_is_not_utf8_is_escaped() {
    assert_eq!(super::printable(b"a\xff\n\xc3\xa4"), "a\\xff\n\u{e4}");
}

#[test]
fn only_the_monitors_verdict_before_the_freeze_counts() {
    let key = [string(b"ssh-ed25519"), string(&[7; 32])].concat();
    let ask = || (CHILD, verify(&key, "publickey"));
    let name = || (CHILD, pwnam("alice"));
    let unknown = (AuthMethod::Unknown, Evidence::ProcessUid);
    for (case, messages, expected) in [
        (
            "verified",
            vec![name(), ask(), (MONITOR, word(25, 0))],
            (AuthMethod::PublicKey, Evidence::SshdMonitor),
        ),
        (
            "refused",
            vec![name(), ask(), (MONITOR, word(25, 1))],
            unknown,
        ),
        ("no verdict", vec![name(), ask()], unknown),
        (
            "verdict by the child",
            vec![name(), ask(), (CHILD, word(25, 0))],
            unknown,
        ),
        (
            "question by a stranger",
            vec![
                name(),
                (CHILD + 1, verify(&key, "publickey")),
                (MONITOR, word(25, 0)),
            ],
            (AuthMethod::Unknown, Evidence::SshdMonitor),
        ),
        (
            "password",
            vec![name(), (MONITOR, word(13, 1))],
            (AuthMethod::Password, Evidence::SshdMonitor),
        ),
        (
            "wrong password",
            vec![name(), (MONITOR, word(13, 0))],
            unknown,
        ),
        (
            "keyboard-interactive",
            vec![name(), (MONITOR, word(109, 1)), (MONITOR, word(109, 0))],
            (AuthMethod::KeyboardInteractive, Evidence::SshdMonitor),
        ),
        (
            "GSSAPI",
            vec![name(), (MONITOR, word(47, 1))],
            (AuthMethod::Gssapi, Evidence::SshdMonitor),
        ),
        (
            "a principal that may not be the user",
            vec![name(), (MONITOR, word(47, 0))],
            unknown,
        ),
        (
            "GSSAPI by the child's word",
            vec![name(), (CHILD, word(47, 1))],
            unknown,
        ),
        (
            "refused key, then password",
            vec![
                name(),
                ask(),
                (MONITOR, word(25, 1)),
                (MONITOR, word(13, 1)),
            ],
            (AuthMethod::Password, Evidence::SshdMonitor),
        ),
        (
            "host-based",
            vec![
                name(),
                (CHILD, verify(&key, "hostbased")),
                (MONITOR, word(25, 0)),
            ],
            (AuthMethod::HostBased, Evidence::SshdMonitor),
        ),
        (
            "another method",
            vec![
                name(),
                (CHILD, verify(&key, "magic")),
                (MONITOR, word(25, 0)),
            ],
            (AuthMethod::Unknown, Evidence::SshdMonitor),
        ),
    ] {
        let login = alice(&after(&messages));
        assert_eq!((login.method, login.evidence), expected, "{case}");
        assert_eq!(login.user, "alice", "{case}");
        let host = login.client_host.map(|host| (host.name, host.user));
        let vouched = ("desk.example.com".to_owned(), "al\\xff".to_owned());
        let expected = (login.method == AuthMethod::HostBased).then_some(vouched);
        assert_eq!(host, expected, "{case}");
        assert_eq!(
            login.key_fingerprint.is_some(),
            login.method == AuthMethod::PublicKey,
            "{case}"
        );
    }
}

#[test]
fn the_first_key_stays_beside_a_second_factor() {
    let key = [string(b"ssh-ed25519"), string(&[7; 32])].concat();
    let identity = after(&[
        (CHILD, pwnam("alice")),
        (CHILD, verify(&key, "publickey")),
        (MONITOR, word(25, 0)),
        (MONITOR, word(109, 0)),
    ]);
    let login = alice(&identity);
    assert_eq!(login.method, AuthMethod::KeyboardInteractive);
    assert!(login.key_fingerprint.is_some());
}

#[test]
fn nothing_counts_after_the_preauth_child() {
    let mut identity = after(&[(CHILD, pwnam("alice")), (MONITOR, word(13, 1))]);
    identity.process_ended(CHILD + 5);
    assert!(identity.observe(MONITOR, MONITOR, &word(13, 0)));
    identity.process_ended(CHILD);
    assert!(!identity.observe(MONITOR, CHILD, &pwnam("root")));
    assert!(!identity.observe(MONITOR, MONITOR, &word(109, 0)));
    assert_eq!(alice(&identity).method, AuthMethod::Password);
}

#[test]
fn the_kernels_user_id_wins_over_sshds_word() {
    let identity = after(&[(CHILD, pwnam("alice")), (MONITOR, word(13, 1))]);
    let cases = [
        (
            true,
            Some(1000),
            "alice",
            AuthMethod::Password,
            (Evidence::SshdMonitor, Confidence::High),
        ),
        (
            true,
            None,
            "alice",
            AuthMethod::Password,
            (Evidence::SshdMonitor, Confidence::Medium),
        ),
        (
            true,
            Some(1001),
            "mallory",
            AuthMethod::Unknown,
            (Evidence::ProcessUid, Confidence::Medium),
        ),
        (
            true,
            Some(4242),
            "",
            AuthMethod::Unknown,
            (Evidence::ProcessUid, Confidence::Medium),
        ),
        (
            false,
            Some(1001),
            "mallory",
            AuthMethod::Unknown,
            (Evidence::UntrustedServer, Confidence::Low),
        ),
    ];
    for (trusted, uid, user, method, evidence) in cases {
        let login = identity.login(trusted, uid, &Users);
        assert_eq!((login.user.as_str(), login.uid), (user, uid));
        assert_eq!(login.method, method);
        assert_eq!((login.evidence, login.confidence), evidence);
    }
    let silent = Identity::default();
    assert_eq!(silent.login(true, None, &Users).evidence, Evidence::None);
    assert_eq!(silent.login(true, Some(0), &Users).user, "root");
}

#[test]
fn damaged_messages_are_unknown_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    keygen(at, &["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
    keygen(at, &["-q", "-t", "ed25519", "-N", "", "-f", "user"]);
    keygen(
        at,
        &["-q", "-s", "ca", "-I", "id", "-n", "alice", "user.pub"],
    );
    let key = blob(at.join("user-cert.pub"));
    let whole = verify(&key, "publickey");
    for len in 0..whole.body.len() {
        let cut = message(24, whole.body[..len].to_vec());
        let mut flipped = whole.clone();
        flipped.body[len] ^= 0xff;
        for question in [cut, flipped] {
            let identity = after(&[
                (CHILD, pwnam("alice")),
                (CHILD, question),
                (MONITOR, word(25, 0)),
            ]);
            let login = alice(&identity);
            assert!(matches!(
                login.method,
                AuthMethod::Certificate | AuthMethod::Unknown | AuthMethod::PublicKey
            ));
        }
    }
    let cut_after_method = whole.body.len() - key.len() - 20;
    let cut = message(24, whole.body[..cut_after_method].to_vec());
    let identity = after(&[
        (CHILD, pwnam("alice")),
        (CHILD, cut),
        (MONITOR, word(25, 0)),
    ]);
    assert_eq!(alice(&identity).method, AuthMethod::Certificate);
    for kind in 0..=255 {
        for body in [vec![], vec![0xff; 4], vec![0; 3]] {
            after(&[
                (CHILD, message(8, body.clone())),
                (CHILD, message(kind, body.clone())),
                (MONITOR, message(kind, body)),
            ]);
        }
    }
}

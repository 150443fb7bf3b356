//! What is known of a session as a whole: the metadata of its manifest.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::{Body, EndReason};

/// The machine a session ran on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Stable id of the host, safe in object keys.
    pub host_id: String,
    /// Its name, as it called itself.
    pub hostname: String,
    /// Boot id of the kernel: a new one after every boot.
    pub boot_id: String,
    /// How its kernel let sessions be captured: "kernel-function", "tracepoint"
    /// or "uprobe"; what each does not see, `auditty-agent check` tells.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub capture_mode: String,
    /// What its administrator says of it, such as `env` = `prod`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// One authenticated SSH connection; it may carry several sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Id, unique on the host.
    pub connection_id: String,
    /// Client address from the kernel's socket; absent when the server had no
    /// network socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<std::net::IpAddr>,
    /// Client port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_port: Option<u16>,
    /// Server address the client reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_address: Option<std::net::IpAddr>,
    /// Server port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_port: Option<u16>,
    /// Path of the sshd image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_exe: String,
    /// Process id of the connection's first process.
    pub pid: u32,
}

/// What kind of channel the session is (RFC 4254 §6.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// An interactive login shell.
    Shell,
    /// One command.
    Exec,
    /// A subsystem such as sftp.
    Subsystem,
    /// No session channel: forwards, or a connection that never opened one.
    Forward,
    /// Not established.
    #[default]
    Unknown,
}

/// How the user authenticated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// A public key.
    PublicKey,
    /// A public key with a certificate.
    Certificate,
    /// A password checked by sshd.
    Password,
    /// Keyboard-interactive, as PAM asks.
    KeyboardInteractive,
    /// Host-based.
    HostBased,
    /// GSSAPI, as with Kerberos.
    Gssapi,
    /// Not established.
    #[default]
    Unknown,
}

/// Where an attribution comes from. Unknown is allowed; wrong is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// sshd's own privilege-separation messages, read in the kernel before the
    /// login was complete: out of the user's reach.
    SshdMonitor,
    /// Only the user id of the session's process; method and key are unknown.
    ProcessUid,
    /// The server itself ran under a user's control, so its word is that
    /// user's word.
    UntrustedServer,
    /// Nothing.
    #[default]
    None,
}

/// How sure an attribution is. It follows from the evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// sshd's messages and the kernel's user id of the session's process agree.
    High,
    /// Only one of the two is known.
    Medium,
    /// The server ran under a user's control.
    Low,
    /// Nothing is known.
    #[default]
    None,
}

/// An OpenSSH certificate as presented at login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Key id, chosen by the CA.
    pub key_id: String,
    /// Serial number.
    pub serial: u64,
    /// Fingerprint of the CA key, `SHA256:…`.
    pub ca_fingerprint: String,
    /// Principals it is valid for.
    pub principals: Vec<String>,
    /// Valid from; absent means always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_after: Option<Timestamp>,
    /// Valid until; absent means for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_before: Option<Timestamp>,
}

/// What the client's own host says of who logs in from it, and signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHost {
    /// Its name, as it says.
    pub name: String,
    /// The user there.
    pub user: String,
    /// Fingerprint of its key, which sshd verified, `SHA256:…`.
    pub key_fingerprint: String,
}

/// Who logged in, and how that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Unix user name.
    pub user: String,
    /// Unix user id of the session's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// How the user authenticated.
    pub method: AuthMethod,
    /// Fingerprint of the key, `SHA256:…`; of the certified key for a
    /// certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<String>,
    /// Key type, such as `ssh-ed25519`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<String>,
    /// The certificate, for certificate logins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// The host that vouches, for host-based logins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_host: Option<Box<ClientHost>>,
    /// Where this comes from.
    pub evidence: Evidence,
    /// How sure it is.
    #[serde(default)]
    pub confidence: Confidence,
}

/// An approved access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Id of the request in the system that approved it.
    pub request_id: String,
    /// Who asked.
    pub requester: String,
    /// Who approved.
    pub approvers: Vec<String>,
    /// Through which access flow.
    pub access_flow: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Reference in a ticket system.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ticket: String,
    /// Valid from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Timestamp>,
    /// Valid until.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// When it was withdrawn, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// How a login stands to the grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantStatus {
    /// One grant covers this login.
    Granted,
    /// No grant covers it.
    #[default]
    Ungranted,
    /// A grant would, but not at this time.
    Expired,
    /// Several grants match equally well; none is chosen.
    Ambiguous,
    /// A grant did or would, but was withdrawn.
    Revoked,
}

/// The outcome of matching a login against the grants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantMatch {
    /// The outcome.
    pub status: GrantStatus,
    /// The grant, when there is exactly one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// Request ids of the candidates, when there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
    /// Since when the session goes on although what granted it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlived_at: Option<Timestamp>,
}

/// Whether a recording is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Still being written.
    #[default]
    Open,
    /// Nothing is missing.
    Complete,
    /// Something is missing, and gaps say exactly what.
    Lossy,
    /// The agent was not running for a part of the session.
    Interrupted,
}

/// What was counted on the timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events, all kinds.
    pub events: u64,
    /// Commands (execs).
    pub commands: u64,
    /// Bytes shown to the client.
    pub output_bytes: u64,
    /// Bytes the client sent, masked ones included.
    pub input_bytes: u64,
    /// Of those, bytes that were masked.
    pub masked_bytes: u64,
    /// Bytes of file transfers that went by and are not stored.
    #[serde(default)]
    pub omitted_bytes: u64,
    /// Inner terminals.
    #[serde(default)]
    pub inner_terminals: u64,
    /// File events.
    #[serde(default)]
    pub files: u64,
    /// File transfers.
    #[serde(default)]
    pub transfers: u64,
    /// Network connections and forwards.
    #[serde(default)]
    pub connects: u64,
    /// Gap events.
    pub gaps: u64,
    /// Events known to be lost.
    pub lost_events: u64,
    /// Bytes known to be lost.
    pub lost_bytes: u64,
}

impl Counts {
    /// Counts one more event.
    pub fn add(&mut self, body: &Body) {
        self.events += 1;
        match body {
            Body::Exec(_) => self.commands += 1,
            Body::Output(output) => {
                self.output_bytes += output.len();
                self.omitted_bytes += output.omitted_bytes.unwrap_or_default();
            }
            Body::Input(input) => {
                self.input_bytes += input.len();
                self.masked_bytes += input.masked_bytes.unwrap_or_default();
                self.omitted_bytes += input.omitted_bytes.unwrap_or_default();
            }
            Body::TerminalOpen(open) if open.terminal > 0 => self.inner_terminals += 1,
            Body::File(_) => self.files += 1,
            Body::Transfer(_) => self.transfers += 1,
            Body::Connect(_) => self.connects += 1,
            Body::Gap(gap) => {
                self.gaps += 1;
                self.lost_events += gap.events.unwrap_or_default();
                self.lost_bytes += gap.bytes.unwrap_or_default();
            }
            Body::SessionStart(_)
            | Body::Login(_)
            | Body::Grant(_)
            | Body::TerminalOpen(_)
            | Body::Resize(_)
            | Body::Exit(_)
            | Body::Disconnect(_)
            | Body::Link(_)
            | Body::Handoff(_)
            | Body::Marker(_)
            | Body::SessionEnd(_) => {}
        }
    }
}

/// One SSH session channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Id; its leading bits are the start time (UUID version 7).
    pub session_id: Uuid,
    /// Where.
    pub host: Host,
    /// Over which connection.
    pub connection: Connection,
    /// Who.
    pub login: Login,
    /// Who allowed it.
    pub grant: GrantMatch,
    /// Shell, exec or subsystem.
    pub session_kind: SessionKind,
    /// The requested command, for `exec` and `subsystem`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// Name of the client's terminal, such as `pts/3`; empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub terminal: String,
    /// Start, wall clock. For adopted sessions: when the process started.
    pub start_time: Timestamp,
    /// End, wall clock; absent while open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// Exit code of the session's own process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Signal that killed the session's own process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
    /// The session was already open when the agent started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// Processes still running after the end.
    #[serde(default)]
    pub running_processes: u32,
    /// When the last process that ran on after the end had ended; absent where
    /// none ran on, and while one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_end_time: Option<Timestamp>,
    /// The session whose process is this one's client, as with `ssh localhost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_session_id: Option<Uuid>,
    /// What was counted.
    pub counts: Counts,
    /// Whether the recording is whole.
    pub verdict: Verdict,
}

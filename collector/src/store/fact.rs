//! What agents report, checked.

use auditty_proto::v1;
use auditty_recording::{
    host::{DigestHead, LogId, SignedEntry},
    receipt::SignedReceipt,
};
use uuid::Uuid;

use super::{HostName, alerts::Cause, receipts::KnownHead};

/// A checked batch of one host.
#[derive(Debug)]
pub struct Batch {
    /// The reporting host.
    pub host_id: String,
    /// Whose host it is; empty where there is one tenant only.
    pub tenant: String,
    /// What it reports, in its order.
    pub facts: Vec<Fact>,
    /// What the collector vouches for when it has stored them, in the order of
    /// heads.
    pub receipts: Vec<(KnownHead, SignedReceipt)>,
    /// What of it somebody should look at.
    pub causes: Vec<Cause>,
}

impl Batch {
    /// The reporting host, and whose it is.
    pub fn host(&self) -> HostName {
        HostName {
            tenant: self.tenant.clone(),
            host_id: self.host_id.clone(),
        }
    }
}

/// One checked fact.
#[derive(Debug)]
pub enum Fact {
    /// A session as it was at a revision.
    Session {
        /// Grows with every report of the session.
        revision: i64,
        /// Its id.
        id: Uuid,
        /// The session.
        session: Box<v1::Session>,
    },
    /// A command started.
    Command {
        /// Its session.
        session: Uuid,
        /// The command, without its end.
        command: Box<v1::Command>,
    },
    /// A command ended.
    CommandEnd(CommandEnd),
    /// A process did something else.
    Activity {
        /// Its session.
        session: Uuid,
        /// The activity; of a network connection without its end.
        activity: Box<v1::Activity>,
    },
    /// A network connection ended.
    ConnectEnd(ConnectEnd),
    /// The host signs with another key.
    HostKey(Box<SignedEntry>),
    /// A digest of the host is in the store.
    DigestHead {
        /// Its key log.
        log: LogId,
        /// The digest.
        head: DigestHead,
    },
    /// A login failed; it says which host.
    FailedLogin(Box<v1::FailedLogin>),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandEnd {
    /// Its session.
    pub session: Uuid,
    /// Its number in the session.
    pub seq: i64,
    /// Exit code, where it exited.
    pub exit_code: Option<u32>,
    /// Signal, where one killed it.
    pub signal: Option<u32>,
    /// How long it ran, nanoseconds.
    pub duration_ns: i64,
}

/// How a network connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectEnd {
    /// Its session.
    pub session: Uuid,
    /// Number of its beginning in the session.
    pub seq: i64,
    /// Bytes sent, where it is known.
    pub sent_bytes: Option<i64>,
    /// Bytes received, where it is known.
    pub received_bytes: Option<i64>,
    /// How long it lasted, nanoseconds.
    pub duration_ns: i64,
}

impl Fact {
    pub(super) fn session_id(&self) -> Option<Uuid> {
        match self {
            Self::Session { id, .. } => Some(*id),
            Self::Command { session, .. }
            | Self::CommandEnd(CommandEnd { session, .. })
            | Self::Activity { session, .. }
            | Self::ConnectEnd(ConnectEnd { session, .. }) => Some(*session),
            Self::HostKey(_) | Self::DigestHead { .. } | Self::FailedLogin(_) => None,
        }
    }
}

//! What the sessions hand downwards: events for the recording, and the state of
//! the session as a whole.

use auditty_recording::{event::Event, session::Session};
use serde::{Deserialize, Serialize};

/// Where one byte stream of a session stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// Which stream.
    pub stream: auditty_recording::event::Stream,
    /// Number of the terminal, for terminal streams.
    pub terminal: Option<u32>,
    /// Towards the client, or from it.
    pub output: bool,
    /// Position of the next byte.
    pub next_offset: u64,
}

/// A session together with what is needed to go on with it after a restart of
/// the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session as it is known now.
    pub session: Session,
    /// Grows with every change of `session`.
    pub revision: u64,
    /// Sequence number of the next event.
    pub next_seq: u64,
    /// Process id of the session's own process, 0 while unknown.
    pub leader_pid: u32,
    /// When that process started, nanoseconds since boot.
    pub leader_start_boot_ns: u64,
    /// Where its streams stand.
    pub streams: Vec<StreamPosition>,
    /// Moment of the latest event, nanoseconds since boot: what comes after it
    /// was missed when the agent was down.
    #[serde(default)]
    pub last_boot_ns: u64,
}

/// Why an event could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("the spool did not take the event: {0}")]
pub struct SinkError(pub String);

/// Takes what the sessions produce. Calls for one session come in order.
pub trait Sink {
    /// Appends an event to the session's recording; `record` already counts it.
    /// After an error the event
    /// is lost: its sequence number is free, and the caller declares the loss
    /// with a gap as soon as an append succeeds again.
    fn append(&mut self, record: &SessionRecord, event: &Event) -> Result<(), SinkError>;

    /// The session's metadata changed (also at its start and end).
    fn changed(&mut self, record: &SessionRecord);

    /// Nothing more will be appended: seal, and write the manifest. The
    /// session's verdict is set.
    fn finished(&mut self, record: &SessionRecord);
}

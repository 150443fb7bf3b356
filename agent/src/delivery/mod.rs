//! What leaves the host: chunks to the store, metadata to the collector.
//!
//! Everything passes through the spool, a folder that survives the agent, and
//! leaves it only when the other side has acknowledged it:
//!
//! ```text
//! <spool>/lock                           held (flock) by the one agent, contains its pid
//! <spool>/journal                        how far the kernel's rings are recorded
//! <spool>/sessions/<uuid>/record.json    the session, and what is needed to go on with it
//!                        /open.jsonl.zst the chunk being written
//!                        /torn.jsonl.zst an open chunk of a dead agent, being recovered
//!                        /NNNNNN.json    seal of chunk NNNNNN: its manifest entry and gaps
//!                        /NNNNNN.jsonl.zst   sealed; deleted when the store has it
//!                        /manifest-NNNNNN.json(.sig), manifest.json(.sig), SHA256SUMS  likewise
//!                        /<object>.sent  this agent has tried to store the object
//! <spool>/outbox/<20 digits>.pb          a ReportRequest; deleted when the collector has it
//! <spool>/dead-letter/<20 digits>.pb     a ReportRequest that the collector refused
//! <spool>/sealed/<uuid>-<manifest>       a sealed manifest; deleted when a digest lists it
//! <spool>/host/<20 digits>.json          a key log entry or digest; deleted when the store has it
//! <spool>/quarantine/…                   what could not be read; never touched again
//! ```
//!
//! A file gets its name by a rename after it was synced, so that whatever has a
//! final name is whole; `*.new` is not. A seal without its chunk is a stored
//! chunk; a chunk without its seal is one whose agent died in between, and gets
//! its seal at the next start. `record.json` with `finished` is the commit
//! point of a recording's end: manifest and digests, prepared as `*.new`, get
//! their names after it.
//!
//! A command is reported only after the chunk that holds it was synced: what
//! the collector knows is in the recording.

mod backoff;
mod connect;
mod digests;
mod files;
mod folder;
mod host_objects;
mod journal;
mod lock;
mod open_chunk;
mod outbox;
mod recover;
mod replay;
mod report;
mod session;
mod signer;
mod spool;
mod tls;
mod upload;
mod usage;

pub use connect::dial;
pub use files::SpoolError;
pub use host_objects::HostObjects;
pub use journal::{Journaled, Point};
pub use lock::AgentLock;
pub use outbox::OutboxState;
pub use report::Reporter;
pub use spool::{Spool, SpoolOptions};
pub use upload::{Stored, Uploader, Uploads};

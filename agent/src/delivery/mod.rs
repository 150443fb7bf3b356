//! What leaves the host: chunks to the store, metadata to the collector.
//!
//! Everything passes through the spool, a folder that survives the agent, and
//! leaves it only when the other side has acknowledged it.
//!
//! # The spool on disk
//!
//! Folders are 0700, files 0600. JSON files hold one object, UTF-8; unknown
//! fields are ignored and new ones have defaults, so that the release before and
//! the one after read it. Numbers in names are decimal, with leading zeros.
//!
//! ```text
//! <spool>/lock                           held (flock) by the one agent, contains its pid
//! <spool>/reserve                        room for the end of what is open (see `reserve`)
//! <spool>/journal                        how far the kernel's rings are recorded (see `journal`)
//! <spool>/sessions/<uuid>/record.json    KeptSession: the session, and what is needed to go on
//!                        /open.jsonl.zst the chunk being written
//!                        /open.pieces   the same, encrypted (see `pieces`)
//!                        /torn.jsonl.zst an open chunk of a dead agent, being recovered
//!                        /NNNNNN.json    Seal of chunk NNNNNN: its manifest entry and gaps
//!                        /NNNNNN.jsonl.zst   sealed; deleted when the store has it
//!                        /NNNNNN(.input).jsonl.zst.age   the same, encrypted
//!                        /manifest-NNNNNN.json(.sig), manifest.json(.sig), SHA256SUMS  likewise
//!                        /<object>.sent  the store may have the object: no answer came
//! <spool>/sessions/<uuid>.over/…        what is being deleted of one that is delivered
//! <spool>/outbox/<20 digits>.pb          a ReportRequest; deleted when the collector has it
//! <spool>/dead-letter/<20 digits>.pb     a ReportRequest that the collector refused
//! <spool>/sealed/<uuid>-<manifest>       a sealed manifest; deleted when a digest lists it
//! <spool>/host/<20 digits>.json          a key log entry or digest; deleted when the store has it
//! <spool>/quarantine/<ms>-<name>         what could not be read; never touched again
//! ```
//!
//! Chunks have the format of [`auditty_recording::format`]. An open chunk is a
//! zstd frame without an end, flushed at every checkpoint: it can be read up to
//! its last flush.
//!
//! A file gets its name by a rename after it was synced, so that whatever has a
//! final name is whole; `*.new` may not be. No two files have to agree: a seal
//! without its chunk is a stored chunk; a chunk without its seal is one whose
//! agent died in between, and gets its seal at the next start. `record.json`
//! with `finished` is the commit point of a recording's end: manifest and
//! digests, prepared as `*.new`, get their names after it. `record.json` may lag
//! behind the open chunk, which is counted in it before it is sealed.
//!
//! A command is reported only after the chunk that holds it was synced: what
//! the collector knows is in the recording.
//!
//! With `[encryption]`, the host cannot read back what happened in a session: its
//! chunks and pieces are encrypted, and `record.json`, seals, pieces' accounts,
//! journal and reports hold what the manifest says and counts, positions and
//! process ids, but neither command lines nor names of files (reports do with
//! `report_content`, and `record.json` and journal the command that was asked
//! for). Reports can leave them out without encryption as well. Takeover, sealing, delivery and verification need no more than that.
//! What was written before encryption was switched on stays as it is.
//!
//! # What a failure costs
//!
//! - **Death of the agent**: nothing that is in the kernel's rings or was written
//!   out (five times a second), see `journal`.
//! - **Power loss**: at most what came since the last sync began. Syncs are one
//!   group for all sessions, beside the thread that records (see `crew`), and
//!   begin every `flush_interval`. The recording ends as interrupted.
//! - **A failed sync** is never trusted nor repeated on the same file: see
//!   `spool_file`. A marker `spool_rewritten` says so on the timeline; where it
//!   cannot be helped, events are refused and declared.
//! - **A full spool or disk**: stages, see `usage` and `reserve`.
//! - **A damaged file** goes to quarantine, alone. Of a chunk, what can be read
//!   is kept, and what is missing declared; a seal is made again; a record is
//!   rebuilt (marker `record_rebuilt`); a sealed chunk that is damaged before it
//!   is stored is declared lost, and verification misses it. Only a session of
//!   which nothing can be told goes as a whole. Digests count the quarantine.
//! - **Trouble with the store or the collector**: everything waits and is tried
//!   for ever. Sessions are stored independently of each other.

mod backoff;
mod checkpoint;
mod connect;
mod crew;
mod digests;
mod encrypted_chunk;
mod failed_logins;
mod files;
mod folder;
mod host_objects;
mod intake;
mod journal;
mod lock;
mod notes;
mod object;
mod open_chunk;
mod outbox;
mod pieces;
mod quarantine;
mod rebuild;
mod recover;
mod recover_pieces;
mod replay;
mod report;
mod reserve;
mod room;
mod session;
mod signer;
mod spool;
mod spool_file;
mod state;
mod tls;
mod upload;
mod usage;
mod watch;

pub(crate) use backoff::Backoff;
pub use connect::dial;
pub use files::SpoolError;
pub(crate) use files::write_whole;
pub use host_objects::HostObjects;
pub use journal::{Journaled, Point};
pub use lock::AgentLock;
pub use outbox::OutboxState;
pub use report::Reporter;
pub use spool::{Spool, SpoolOptions};
pub use state::StoreState;
pub use upload::{Stored, Uploader, Uploads};
pub use watch::{Watch, inspect};

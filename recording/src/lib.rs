//! The recording format as a library: write, sign, read, verify, export.
//!
//! A *recording* is all events of one SSH session. It is stored as immutable
//! *chunks* and a *manifest*, written while the session runs; see [`format`]
//! for the specification a reader without this library needs.
//!
//! | room | what is in it |
//! |---|---|
//! | [`event`], [`session`] | what stands on a line, and what is known of a session |
//! | [`mod@format`], [`key`], [`digest`] | the specification, object keys, hash chain |
//! | [`chunk`], [`manifest`] | writing and reading the objects |
//! | [`encryption`] | who may read them |
//! | [`signature`], [`host`] | who sealed: signatures, key log, digest chain |
//! | [`store`] | where objects are kept: a folder, or S3 |
//! | [`reader`] | a whole recording, with every problem found in it |
//! | [`receipt`] | what a collector vouches for |
//! | [`verify`] | is a store what its hosts sealed? |
//! | [`export`] | asciicast, text, JSON Lines |
#![forbid(unsafe_code)]

mod bytes;
pub mod chunk;
pub mod digest;
pub mod encryption;
mod escape;
pub mod event;
pub mod export;
pub mod format;
pub mod host;
pub mod key;
pub mod manifest;
pub mod reader;
pub mod receipt;
pub mod session;
pub mod signature;
pub mod store;
pub mod summary;
pub mod verify;

pub use bytes::Bytes;

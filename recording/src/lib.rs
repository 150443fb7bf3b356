//! The recording format as a library: write, read, export.
//!
//! A *recording* is all events of one SSH session. It is stored as immutable
//! *chunks* and a *manifest*, written while the session runs; see `format.rs`
//! for the specification a reader without this library needs.
#![forbid(unsafe_code)]

mod bytes;
pub mod event;
pub mod session;

pub use bytes::Bytes;

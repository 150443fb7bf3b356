//! A recording on the viewer's terminal.
//!
//! ```text
//! events → timeline → player → emulator → view → painter → terminal
//! ```
//!
//! Recorded bytes go no further than the emulator. Where a session is followed
//! without a screen, [`tail`] stands in its place.

pub mod emulator;
pub mod live;
mod painter;
pub mod plain;
mod player;
mod skim;
pub mod tail;
pub mod timeline;
mod view;

//! A recording on the viewer's terminal.
//!
//! ```text
//! events → timeline → player → emulator → view → painter → terminal
//! ```
//!
//! Recorded bytes go no further than the emulator.

pub mod emulator;
pub mod live;
mod painter;
pub mod plain;
mod player;
mod skim;
pub mod timeline;
mod view;

//! The host daemon: kernel events become sessions, sessions become recordings,
//! recordings leave the host.

pub mod capture;
pub mod config;
pub mod delivery;
pub mod grants;
mod memory;
pub mod run;
pub mod sessions;

//! The spool and what delivers from it, also on disks and to stores that fail.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may"
)]

#[path = "../common/mod.rs"]
mod common;

mod crash_points;
mod damage;
mod delivery;
mod encrypted;
mod full_disk;
mod injected;
mod kills;
mod many;
mod outage;
mod power;
mod store_faults;

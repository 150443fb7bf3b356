//! The maps shared with the kernel programs, as user space reads them.

#![allow(
    unsafe_code,
    reason = "values of maps are plain memory; see the SAFETY comments"
)]

use auditty_capture_ebpf::{LossCount, LossKey, Position, Process, Transfer, WATCH_WORD};
use aya::{Pod, maps::Map};

use super::CaptureError;

/// Where the maps of programs are, those of this agent or of another.
pub trait Maps {
    /// Takes one.
    fn take(&mut self, name: &'static str) -> Result<Map, CaptureError>;

    /// Runs of each program that the kernel skipped so far.
    fn missed(&self) -> Vec<(&'static str, u64)>;
}

macro_rules! plain {
    ($($(#[$doc:meta])* $wrapper:ident($inner:ty);)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy)]
            #[repr(transparent)]
            pub struct $wrapper(pub $inner);

            // SAFETY: integers only, `repr(C)`, padding explicit: every bit
            // pattern is a value and no byte is uninitialised.
            unsafe impl Pod for $wrapper {}
        )*
    };
}

plain! {
    /// Value of `PROCESSES`.
    ProcessValue(Process);
    /// Value of `POSITIONS`.
    PositionValue(Position);
    /// Value of `TRANSFERS`.
    TransferValue(Transfer);
    /// Key of `LOSSES`.
    LossKeyValue(LossKey);
    /// Value of `LOSSES` and `UNATTRIBUTED`.
    LossCountValue(LossCount);
    /// Value of `WATCHED`.
    WatchWord([u8; WATCH_WORD]);
}

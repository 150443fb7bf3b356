//! QEMU and what its guests are made of. They can be missing: only the tests on
//! other kernels need them.

use anyhow::Result;

use super::{Outcome, packages};

/// Package and reason.
const PACKAGES: [(&str, &str); 2] = [
    ("qemu-system-x86", "boots the other kernels of the tests"),
    ("busybox-static", "is the guests' user space"),
];

/// Why there are no tests on other kernels.
pub const NO_EMULATOR: &str =
    "qemu-system-x86 and busybox-static cannot be installed here: no tests on other kernels";

/// Whether it is installed.
pub fn present() -> bool {
    PACKAGES.iter().all(|(name, _)| packages::installed(name))
}

/// Installs it where that works.
pub fn ensure() -> Result<Outcome> {
    Ok(packages::install(&PACKAGES).unwrap_or_else(|error| {
        println!("setup: {error:#}");
        Outcome::Skipped(NO_EMULATOR)
    }))
}

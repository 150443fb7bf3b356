//! QEMU. It can be missing: only the tests on other kernels need it.

use anyhow::Result;

use super::{Outcome, packages};

/// Package and reason.
const PACKAGES: [(&str, &str); 4] = [
    ("qemu-system-x86", "boots the other kernels of the tests"),
    ("binutils", "takes their type information out of them"),
    ("lz4", "unpacks those up to 6.1"),
    ("xz-utils", "unpacks those that are built so"),
];

/// Why there are no tests on other kernels.
pub const NO_EMULATOR: &str =
    "QEMU, or what unpacks kernels, cannot be installed here: no tests on other kernels";

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

//! Memory that the start needed and nobody needs any more.

#![allow(
    unsafe_code,
    reason = "a call into the C library; see the SAFETY comment"
)]

/// Gives free pages back to the kernel. The type information of a kernel is read
/// into many small pieces; freed, they stay with the process, below the few that
/// live on (glibc; other allocators have ways of their own).
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

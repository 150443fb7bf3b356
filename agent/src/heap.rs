//! Memory that is not needed any more goes back to the kernel (glibc; other
//! allocators have ways of their own).

#![allow(
    unsafe_code,
    reason = "calls into the C library; see the SAFETY comments"
)]

/// From this size on, a piece of memory is mapped, and goes when it is freed.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 << 10;

/// Keeps large pieces apart from small ones. Of itself the allocator stops doing so
/// with the first large one that is freed; then the compressors of chunks, which come
/// and go, leave holes between what every session keeps.
pub fn separate() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, may be called by any thread at any time.
    let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    #[cfg(target_env = "gnu")]
    if set == 0 {
        tracing::debug!("the allocator keeps large pieces where it likes");
    }
}

/// Gives free pages back to the kernel. The type information of a kernel is read
/// into many small pieces; freed, they stay with the process, below the few that
/// live on.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

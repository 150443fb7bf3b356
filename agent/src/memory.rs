//! Memory that is not needed any more goes back to the kernel (that of the heap with
//! glibc; other allocators have ways of their own).

#![allow(
    unsafe_code,
    reason = "calls into the C library; see the SAFETY comments"
)]

use std::fs;

use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};

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

/// Lets go of the agent's program, of which the start needs far more than what
/// follows: what is needed again comes back from the page cache.
pub fn forget_start() {
    match own_program() {
        Ok(maps) => maps.iter().for_each(forget),
        Err(error) => tracing::debug!(%error, "what the start needed stays in memory"),
    }
}

/// Where the program's file is mapped, as it is in the file. Not that of libraries:
/// they may be replaced meanwhile.
fn own_program() -> anyhow::Result<Vec<MemoryMap>> {
    let program = MMapPath::Path(fs::read_link("/proc/self/exe")?);
    let is_program = |map: &MemoryMap| {
        let writable = map.perms.contains(MMPermissions::WRITE);
        let changed = |what| map.extension.map.get(what).is_none_or(|bytes| *bytes != 0);
        map.pathname == program && !writable && !changed("Anonymous") && !changed("Swap")
    };
    let maps = Process::myself()?.smaps()?.0;
    Ok(maps.into_iter().filter(is_program).collect())
}

fn forget(map: &MemoryMap) {
    let (start, end) = map.address;
    // SAFETY: a mapping of our own file, which cannot be written while it runs, that
    // nobody writes to, and with nothing else than what is in the file: each page is
    // read from there again, the same as before.
    let forgotten =
        unsafe { libc::madvise(start as *mut _, (end - start) as usize, libc::MADV_DONTNEED) };
    if forgotten != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "a part of the program stays in memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_start_needed_goes_and_comes_back() {
        let resident = || -> u64 {
            let maps = own_program().unwrap();
            let rss = maps.iter().filter_map(|map| map.extension.map.get("Rss"));
            rss.sum()
        };
        let before = resident();
        forget_start();
        let after = resident();
        assert!(after < before / 2, "{before} B before, {after} B after");
    }
}

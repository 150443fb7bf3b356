//! Reading a ring buffer without giving its records back.
//!
//! The kernel overwrites what lies behind the consumer's position. This reader
//! goes ahead of it with a cursor of its own, and moves the position only when
//! told that what it read is safe ([`Ring::release`]): what an agent has read
//! and not yet written when it dies is there for the next one.
//!
//! Layout (kernel/bpf/ringbuf.c, unchanged since 5.8): a page that begins with
//! the consumer's position, writable; a page that begins with the producer's
//! position; the data, mapped twice in a row so that a record never wraps. Each
//! record has a head of eight bytes: its length with two flags, and an offset
//! of the kernel's own.

#![allow(
    unsafe_code,
    reason = "the ring is memory shared with the kernel; see the SAFETY comments"
)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::MapData;
use serde::{Deserialize, Serialize};

/// The record is not complete yet (`BPF_RINGBUF_BUSY_BIT`).
const BUSY: u32 = 1 << 31;
/// The record is to be skipped (`BPF_RINGBUF_DISCARD_BIT`).
const DISCARDED: u32 = 1 << 30;
const HEAD: u64 = 8;

/// How far a ring was handed over: positions in the kernel's own count, which
/// never goes back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Everything before was read.
    pub cursor: u64,
    /// Of that, what is not handed over yet: records are read in the order of
    /// the ring and handed over in that of time.
    pub waiting: Vec<u64>,
    /// What is still needed begins here.
    pub floor: u64,
}

impl Mark {
    /// Whether a record was handed over.
    pub fn covers(&self, position: u64) -> bool {
        position < self.cursor && !self.waiting.contains(&position)
    }
}

/// A mark in each of the two rings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// In the ring of processes and connections.
    pub control: Mark,
    /// In the ring of terminal and pipe bytes.
    pub data: Mark,
}

/// Memory of a map, as long as this lives.
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory stays mapped wherever the owner moves; it is only accessed
// through atomics, and through slices that borrow the owner.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(map: &MapData, offset: usize, length: usize, writable: bool) -> io::Result<Self> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                libc::off_t::try_from(offset).map_err(io::Error::other)?,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, length })
    }

    fn atomic(&self) -> &AtomicU64 {
        // SAFETY: at least a page, mapped and aligned, that outlives the borrow;
        // the kernel too accesses it with atomic loads and stores only.
        unsafe { self.start.cast().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and not borrowed any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// One ring, and how far it was read.
pub struct Ring {
    map: MapData,
    consumer: Mapping,
    /// The producer's page, and the data twice.
    producer: Mapping,
    page: usize,
    size: u64,
    cursor: u64,
}

impl Ring {
    /// Maps a ring; reading begins where the consumer stands.
    pub fn new(map: MapData) -> io::Result<Self> {
        let page = page_size()?;
        let info = map.info().map_err(io::Error::other)?;
        let size = info.max_entries();
        let consumer = Mapping::new(&map, 0, page, true)?;
        let producer = Mapping::new(&map, page, page + 2 * size as usize, false)?;
        let cursor = consumer.atomic().load(Ordering::Acquire);
        Ok(Self {
            map,
            consumer,
            producer,
            page,
            size: u64::from(size),
            cursor,
        })
    }

    /// The map, for waiting on it.
    pub fn map(&self) -> &MapData {
        &self.map
    }

    /// Reads on where a reader before has stopped. `false` when that is not
    /// there any more, or was never there.
    pub fn seek(&mut self, mark: &Mark) -> bool {
        let consumer = self.consumer.atomic().load(Ordering::Acquire);
        let there =
            consumer <= mark.floor && mark.floor <= mark.cursor && mark.cursor <= self.producer();
        if there {
            self.cursor = mark.floor;
        }
        there
    }

    /// Position of the next record.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The next record and its position, if it is complete.
    pub fn read(&mut self) -> Option<(u64, &[u8])> {
        loop {
            if self.cursor >= self.producer() {
                return None;
            }
            let position = self.cursor;
            let at = self.page + (position & (self.size - 1)) as usize;
            // SAFETY: the position lies before the producer's, so that a head of
            // eight bytes, aligned to eight, is mapped there. The kernel clears
            // the flag last, with release semantics.
            let head = unsafe {
                let head = self.producer.start.add(at).cast::<AtomicU32>();
                head.as_ref().load(Ordering::Acquire)
            };
            if head & BUSY != 0 {
                return None;
            }
            let length = u64::from(head & !DISCARDED);
            self.cursor += (length + HEAD).next_multiple_of(HEAD);
            if head & DISCARDED != 0 {
                continue;
            }
            let begin = at + HEAD as usize;
            let end = begin.checked_add(length as usize)?;
            if end > self.producer.length {
                return None;
            }
            // SAFETY: checked to lie inside the mapping; the kernel does not
            // write it before `release`, which needs `&mut self`, moves past.
            let record = unsafe {
                slice::from_raw_parts(self.producer.start.add(begin).as_ptr(), length as usize)
            };
            return Some((position, record));
        }
    }

    /// The kernel may overwrite what lies before `position`.
    pub fn release(&mut self, position: u64) {
        let consumer = self.consumer.atomic();
        if position > consumer.load(Ordering::Relaxed) && position <= self.cursor {
            consumer.store(position, Ordering::Release);
        }
    }

    /// Bytes that were read and are not released.
    pub fn held(&self) -> u64 {
        let consumer = self.consumer.atomic().load(Ordering::Relaxed);
        self.cursor.saturating_sub(consumer)
    }

    /// Bytes that nobody has released.
    pub fn unread(&self) -> u64 {
        let consumer = self.consumer.atomic().load(Ordering::Relaxed);
        self.producer().saturating_sub(consumer)
    }

    /// Its size, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn producer(&self) -> u64 {
        self.producer.atomic().load(Ordering::Acquire)
    }
}

/// An array of integers that is shared with the programs.
pub struct SharedArray {
    memory: Mapping,
    length: usize,
}

impl SharedArray {
    /// Maps an array of `u64`.
    pub fn new(map: &MapData) -> io::Result<Self> {
        let page = page_size()?;
        let info = map.info().map_err(io::Error::other)?;
        if info.value_size() != 8 {
            return Err(io::Error::other("not an array of u64"));
        }
        let length = info.max_entries() as usize;
        let memory = Mapping::new(map, 0, (length * 8).next_multiple_of(page), true)?;
        Ok(Self { memory, length })
    }

    /// The values.
    pub fn values(&self) -> &[AtomicU64] {
        // SAFETY: `length` integers are mapped and aligned, outlive the borrow,
        // and are only ever accessed one by one.
        unsafe {
            slice::from_raw_parts(self.memory.start.cast::<AtomicU64>().as_ptr(), self.length)
        }
    }
}

fn page_size() -> io::Result<usize> {
    // SAFETY: no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(page).map_err(io::Error::other)
}

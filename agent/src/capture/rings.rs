//! The two rings through which the programs hand their records over: a flood
//! of output or files in one must not displace processes and logins in the
//! other.

use std::{io, time::Duration};

use aya::maps::{Map, MapData};
use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

use super::{
    CaptureError,
    decode::{Decoded, Decoder},
    event::{Fact, KernelEvent},
    maps::Maps,
    queue::Floors,
    ring::{Mark, Marks, Ring},
    sensitive::SensitivePaths,
};

/// A program hands over all pieces of a record in one go: a piece that is older
/// than this has lost its end, and holds nothing up.
const PIECE_NS: u64 = 1_000_000_000;

/// This part of a ring may be held before an acknowledgement is urgent.
const HELD_PART: u64 = 4;

/// Both rings.
pub struct Rings {
    control: Ring,
    data: Ring,
    /// Where the agent before has stopped.
    before: Marks,
    decoder: Decoder,
    epoll: Epoll,
}

/// An event, and where its record lies.
pub struct Read {
    /// The event.
    pub event: KernelEvent,
    /// Its record; the agent itself makes events too.
    pub source: Source,
}

/// Where a record lies.
#[derive(Clone, Copy)]
pub enum Source {
    /// Nowhere.
    Agent,
    /// In the ring of processes and connections.
    Control(Place),
    /// In the ring of terminal and pipe bytes, and of file activity.
    Data(Place),
}

/// Positions of a record and of its first piece.
#[derive(Clone, Copy)]
pub struct Place {
    position: u64,
    first: u64,
}

impl From<KernelEvent> for Read {
    fn from(event: KernelEvent) -> Self {
        Self {
            event,
            source: Source::Agent,
        }
    }
}

/// A ring's map.
pub fn ring(name: &'static str, map: Map) -> Result<Ring, CaptureError> {
    let failed = |error: io::Error| CaptureError::Load(name, error.to_string());
    match map {
        Map::RingBuf(map) => Ring::new(map).map_err(failed),
        _ => Err(failed(io::Error::other("it is no ring"))),
    }
}

impl Rings {
    /// Takes the rings' maps. Reading begins at `marks`, where an agent before
    /// has stopped. Reads are reported of `sensitive` files.
    pub fn new(
        maps: &mut impl Maps,
        sensitive: SensitivePaths,
        marks: Option<&Marks>,
    ) -> Result<Self, CaptureError> {
        let mut control = ring("CONTROL", maps.take("CONTROL")?)?;
        let mut data = ring("DATA", maps.take("DATA")?)?;
        if let Some(marks) = marks
            && !(control.seek(&marks.control) && data.seek(&marks.data))
        {
            return Err(CaptureError::Marks);
        }
        let epoll = wait_on(control.map())?;
        Ok(Self {
            control,
            data,
            before: marks.cloned().unwrap_or_default(),
            decoder: Decoder::new(sensitive),
            epoll,
        })
    }

    /// Waits until a program asks for attention, or the time is over.
    pub fn wait(&self, timeout: Duration) -> Result<(), CaptureError> {
        let timeout = EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::ZERO);
        match self.epoll.wait(&mut [EpollEvent::empty()], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(CaptureError::Wait(io::Error::from(errno))),
        }
    }

    /// Decodes all that is there and appends it to `events`. Returns whether a
    /// connection begins, or is about to.
    pub fn drain(&mut self, events: &mut Vec<Read>, mut malformed: impl FnMut()) -> bool {
        let mut starting = false;
        let Self {
            control,
            data,
            before,
            decoder,
            ..
        } = self;
        let control = (control, &before.control, Source::Control as fn(Place) -> _);
        let data = (data, &before.data, Source::Data as fn(Place) -> _);
        for (ring, before, source) in [control, data] {
            while let Some((position, record)) = ring.read() {
                decoder.position = position;
                match decoder.decode(record) {
                    // Pieces are decoded all the same: what they belong to may
                    // still have to come.
                    Decoded::Event(_) | Decoded::ListenerFork if before.covers(position) => {}
                    Decoded::Event(event) => {
                        starting |= matches!(event.fact, Fact::ConnectionStart(_));
                        let first = decoder.first;
                        let source = source(Place { position, first });
                        events.push(Read { event, source });
                    }
                    Decoded::ListenerFork => starting = true,
                    Decoded::Partial | Decoded::Unwanted => {}
                    Decoded::Malformed => malformed(),
                }
            }
        }
        starting
    }

    /// How far all has been handed over, except what `waits`.
    pub fn marks(&self, waits: &[Read], now: u64) -> Marks {
        let mark = |ring: &Ring| Mark {
            cursor: ring.cursor(),
            floor: ring.cursor(),
            waiting: Vec::new(),
        };
        let (mut control, mut data) = (mark(&self.control), mark(&self.data));
        for read in waits {
            let (mark, place) = match read.source {
                Source::Agent => continue,
                Source::Control(place) => (&mut control, place),
                Source::Data(place) => (&mut data, place),
            };
            mark.waiting.push(place.position);
            mark.floor = mark.floor.min(place.first);
        }
        // Of the first ring execs come in pieces, of the second file activity.
        let since = now.saturating_sub(PIECE_NS);
        if let Some(piece) = self.decoder.oldest_piece(since) {
            control.floor = control.floor.min(piece);
        }
        if let Some(piece) = self.decoder.oldest_file_piece(since) {
            data.floor = data.floor.min(piece);
        }
        Marks { control, data }
    }

    /// The kernel may overwrite what lies before these positions.
    pub fn release(&mut self, floors: Floors) {
        self.control.release(floors.control);
        self.data.release(floors.data);
    }

    /// Whether so much is held that an acknowledgement should not wait.
    pub fn is_urgent(&self) -> bool {
        [&self.control, &self.data]
            .into_iter()
            .any(|ring| ring.held() > ring.size() / HELD_PART)
    }
}

/// Edge triggered: only a wake-up that a program asks for counts, not that
/// something lies in the ring.
fn wait_on(map: &MapData) -> Result<Epoll, CaptureError> {
    let wait = |errno: Errno| CaptureError::Wait(io::Error::from(errno));
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(wait)?;
    let interest = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
    epoll.add(map.fd(), interest).map_err(wait)?;
    Ok(epoll)
}

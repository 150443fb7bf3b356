//! The two rings through which the programs hand their records over: a flood
//! of output in one must not displace processes and logins in the other.

use std::{io, os::fd::AsRawFd, time::Duration};

use aya::maps::{MapData, RingBuf};
use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

use super::{
    CaptureError,
    decode::{Decoded, Decoder},
    event::{Fact, KernelEvent},
    hooks::Hooks,
};

/// Both rings.
pub struct Rings {
    control: RingBuf<MapData>,
    data: RingBuf<MapData>,
    decoder: Decoder,
    epoll: Epoll,
}

impl Rings {
    /// Takes the rings' maps.
    pub fn new(hooks: &mut Hooks) -> Result<Self, CaptureError> {
        let failed =
            |name| move |error: aya::maps::MapError| CaptureError::Load(name, error.to_string());
        let control: RingBuf<MapData> = hooks
            .take_map("CONTROL")?
            .try_into()
            .map_err(failed("CONTROL"))?;
        let data = hooks.take_map("DATA")?.try_into().map_err(failed("DATA"))?;
        let wait = |errno: Errno| CaptureError::Wait(io::Error::from(errno));
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(wait)?;
        // Edge triggered: only a wake-up that a program asks for counts, not
        // that something lies in the ring.
        let interest = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        // SAFETY: the ring owns its descriptor and lives as long as `epoll`.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(control.as_raw_fd()) };
        epoll.add(fd, interest).map_err(wait)?;
        Ok(Self {
            control,
            data,
            decoder: Decoder::default(),
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
    pub fn drain(&mut self, events: &mut Vec<KernelEvent>, mut malformed: impl FnMut()) -> bool {
        let mut starting = false;
        for ring in [&mut self.control, &mut self.data] {
            while let Some(record) = ring.next() {
                match self.decoder.decode(&record) {
                    Decoded::Event(event) => {
                        starting |= matches!(event.fact, Fact::ConnectionStart(_));
                        events.push(event);
                    }
                    Decoded::ListenerFork => starting = true,
                    Decoded::Partial => {}
                    Decoded::Malformed => malformed(),
                }
            }
        }
        starting
    }
}

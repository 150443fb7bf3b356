//! A program that is attached, and whether it still is.
//!
//! The kernel has no call that detaches the link of a tracepoint or a probe
//! (`bpftool link detach` is refused): it ends with its last descriptor and its
//! last name in bpffs. A debugger can close the one, `rm` takes the other.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::programs::{
    kprobe::KProbeLinkId, links::FdLink, trace_point::TracePointLinkId, uprobe::UProbeLinkId,
};

use super::{kretprobe, ladder::Hook};

/// A program that is attached.
pub enum Attached {
    /// Before Linux 5.15, which has no links for them.
    Tracepoint(&'static Hook, TracePointLinkId),
    /// As above.
    Entry(&'static Hook, KProbeLinkId),
    /// To a tracepoint or the entry of a function.
    Link(&'static Hook, Kept),
    /// Inside sshd.
    Sshd(&'static Hook, Vec<UProbeLinkId>),
    /// To the return of a function, and where that is pinned.
    Return(&'static Hook, kretprobe::Probe, Option<PathBuf>),
}

/// A link, and where it is pinned.
pub struct Kept {
    link: FdLink,
    id: u32,
    pin: Option<PathBuf>,
}

impl Attached {
    /// What it is attached to.
    pub fn hook(&self) -> &'static Hook {
        match self {
            Self::Tracepoint(hook, _)
            | Self::Entry(hook, _)
            | Self::Link(hook, _)
            | Self::Sshd(hook, _)
            | Self::Return(hook, ..) => hook,
        }
    }

    /// The probe of functions' returns, or of several functions.
    pub fn probe(&self) -> Option<&kretprobe::Probe> {
        match self {
            Self::Return(_, probe, _) => Some(probe),
            _ => None,
        }
    }

    /// Whether the kernel still has it, as far as it tells.
    pub fn is_there(&self) -> bool {
        match self {
            Self::Link(_, kept) => kept.is_there(),
            Self::Return(_, probe, _) => probe.is_attached(),
            Self::Tracepoint(..) | Self::Entry(..) | Self::Sshd(..) => true,
        }
    }

    /// Whether it is pinned where it is to be.
    pub fn is_pinned(&self) -> bool {
        self.pin().is_none_or(Path::exists)
    }

    /// Pins it again; `None` when that failed, and has detached it.
    pub fn pin_again(self) -> Option<Self> {
        let pin = self.pin()?.to_owned();
        match self {
            Self::Link(hook, kept) => {
                let kept = Kept::new(kept.link, Some(pin)).ok()?;
                Some(Self::Link(hook, kept))
            }
            Self::Return(hook, probe, pin) => {
                probe.pin(pin.as_ref()?).ok()?;
                Some(Self::Return(hook, probe, pin))
            }
            other => Some(other),
        }
    }

    /// It is not there any more. Its descriptor may be something else's by now,
    /// and its name is not to be in the way.
    pub fn forget(self) {
        if let Some(pin) = self.pin() {
            let _ = fs::remove_file(pin);
        }
        match self {
            Self::Link(_, kept) => std::mem::forget(kept.link),
            Self::Return(_, probe, _) => probe.forget(),
            Self::Tracepoint(..) | Self::Entry(..) | Self::Sshd(..) => {}
        }
    }

    fn pin(&self) -> Option<&Path> {
        match self {
            Self::Link(_, kept) => kept.pin.as_deref(),
            Self::Return(_, _, pin) => pin.as_deref(),
            Self::Tracepoint(..) | Self::Entry(..) | Self::Sshd(..) => None,
        }
    }
}

impl Kept {
    /// Keeps a link, also beyond the agent's life where it is to be pinned.
    pub fn new(link: FdLink, pin: Option<PathBuf>) -> Result<Self, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let link = match &pin {
            Some(pin) => link.pin(pin).map_err(|e| text(&e))?.into(),
            None => link,
        };
        let id = link.info().map_err(|e| text(&e))?.id();
        Ok(Self { link, id, pin })
    }

    fn is_there(&self) -> bool {
        self.link.info().is_ok_and(|info| info.id() == self.id)
    }

    /// Ends it: when this returns, the program does not run any more.
    pub fn detach(self) -> io::Result<()> {
        match self.pin.map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

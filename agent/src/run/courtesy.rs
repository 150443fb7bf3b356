//! Where processors are short, those who work on this host go first, as long as the
//! agent keeps up with what they show.
//!
//! A flood of output keeps the processors of a small host busy from end to end: who
//! shows it, sshd, the network. What the recorder takes of them then is missing there,
//! but there are gaps, in which one of these waits for another: the agent takes those.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    time::Duration,
};

use nix::unistd::{getpid, getsid};

/// A batch with so many bytes is of a flood: some MB a second.
const FLOOD_BYTES: usize = 128 << 10;

/// Older than this, what is taken waits too long.
const BEHIND: Duration = Duration::from_millis(250);

/// As nice(1) has it.
const POLITE: &str = "19";
const USUAL: &str = "0";

/// The agent's place among those who want processors.
pub(super) struct Courtesy {
    /// Where the kernel takes it for the whole session of processes (sched(7),
    /// autogroups); `None` where others are in that too, or there is no such thing.
    /// Where the agent has a control group with processor shares, those hold.
    place: Option<File>,
    is_polite: bool,
}

impl Courtesy {
    /// Of this process.
    pub(super) fn new() -> Self {
        let leads = getsid(None).is_ok_and(|session| session == getpid());
        let open = || OpenOptions::new().write(true).open("/proc/self/autogroup");
        let place = leads.then(open).and_then(Result::ok);
        Self {
            place,
            is_polite: false,
        }
    }

    /// After a batch of so many bytes, which is so old. Nothing may be lost for
    /// politeness: not where the kernel's rings wait to be released.
    pub(super) fn judge(&mut self, bytes: usize, age: Duration, urgent: bool) {
        let is_polite = bytes >= FLOOD_BYTES && age < BEHIND && !urgent;
        if is_polite != self.is_polite {
            self.is_polite = is_polite;
            self.take_place();
        }
    }

    /// Nothing waits.
    pub(super) fn rest(&mut self) {
        self.judge(0, Duration::ZERO, false);
    }

    fn take_place(&mut self) {
        let place = if self.is_polite { POLITE } else { USUAL };
        if let Some(file) = &mut self.place
            && let Err(error) = file.write_all(place.as_bytes())
        {
            tracing::debug!(%error, "the kernel does not let the agent choose its place");
            self.place = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_keeps_up_with_a_flood_is_polite() {
        let mut courtesy = Courtesy {
            place: None,
            is_polite: false,
        };
        let mut after = |bytes, age, urgent| {
            courtesy.judge(bytes, age, urgent);
            courtesy.is_polite
        };
        assert!(!after(FLOOD_BYTES - 1, Duration::ZERO, false));
        assert!(after(FLOOD_BYTES, Duration::ZERO, false));
        assert!(!after(FLOOD_BYTES, BEHIND, false));
        assert!(!after(FLOOD_BYTES, Duration::ZERO, true));
        assert!(after(FLOOD_BYTES, Duration::ZERO, false));
        assert!(!after(0, Duration::ZERO, false));
    }
}

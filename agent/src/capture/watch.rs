//! Whether the hooks work: looked at every second, and before a session is told
//! that one of its processes has ended, so that none ends well without them. What
//! does not work is told, and attached again where that can be done.
//!
//! | what can happen | seen by | mended |
//! |---|---|---|
//! | a link is gone | the kernel's word on its descriptor, since Linux 5.15 | attached again |
//! | the programs are switched off through the map `ACTIVE` | the map's memory | switched on again |
//! | names in bpffs are removed | their absence; nothing is lost while the agent lives | pinned again |
//! | kprobes or ftrace are switched off for the whole host | their switches | by whoever did it |
//! | sshd is replaced, where programs run inside it | its inode | by the agent's next start |
//!
//! No map is looked up: the kernel keeps tracing programs off a CPU meanwhile.

use std::fs;

use aya::maps::Map;

use super::{
    CaptureError,
    hooks::Hooks,
    ladder::{Hook, Point},
    pins,
    ring::SharedArray,
    sshd_calls,
};

/// Files that say whether probes of kernel functions are on, where they can be
/// read.
const PROBE_SWITCHES: [&str; 2] = [
    "/sys/kernel/debug/kprobes/enabled",
    "/proc/sys/kernel/ftrace_enabled",
];

/// How closely the hooks are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Whether they are attached and switched on: a microsecond each.
    Attached,
    /// Also whether the system has switched them off.
    Switches,
    /// Also whether they are pinned.
    Pins,
}

/// Why a hook does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its link is gone.
    Detached,
    /// Another generation of programs is said to be the one that works.
    SwitchedOff,
    /// Probes of kernel functions are switched off.
    ProbesOff,
    /// sshd is another file than the one with the probes.
    SshdReplaced,
    /// It works, but would have ended with the agent.
    Unpinned,
}

impl Reason {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Detached => "it was detached",
            Self::SwitchedOff => "the programs were switched off",
            Self::ProbesOff => "probes of kernel functions were switched off on this host",
            Self::SshdReplaced => {
                "sshd was replaced, and the new one is probed when the agent is restarted"
            }
            Self::Unpinned => {
                "its name in /sys/fs/bpf was removed: it would have ended with the agent"
            }
        }
    }

    /// Whether open sessions miss what it sees. A server without probes is said in
    /// its own sessions.
    pub fn blinds(self) -> bool {
        !matches!(self, Self::SshdReplaced | Self::Unpinned)
    }
}

/// A hook that was found not to work.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// Which.
    pub hook: &'static Hook,
    /// Why.
    pub reason: Reason,
}

/// What is known of hooks that do not work.
pub struct Watch {
    active: SharedArray,
    cpus: usize,
    generation: u64,
    sshd: Vec<(&'static str, u64, u64)>,
    stopped: Vec<Stop>,
    /// What was last logged of one that cannot be attached again.
    refused: Option<String>,
}

impl Watch {
    /// Watches programs of a generation.
    pub fn new(active: Option<&Map>, generation: u64) -> Result<Self, CaptureError> {
        let failed = |reason: String| CaptureError::Load("ACTIVE", reason);
        let Some(Map::Array(active)) = active else {
            return Err(failed("the object has no such array".to_owned()));
        };
        Ok(Self {
            active: SharedArray::new(active).map_err(|error| failed(error.to_string()))?,
            cpus: aya::util::nr_cpus().unwrap_or(usize::MAX),
            generation,
            sshd: sshd_calls::programs(),
            stopped: Vec::new(),
            refused: None,
        })
    }

    /// Whether a hook was found not to work, and does not yet.
    pub fn is_stopped(&self, hook: &Hook) -> bool {
        let mut stopped = self.stopped.iter();
        stopped.any(|stop| std::ptr::eq(stop.hook, hook))
    }

    fn is_active(&self) -> bool {
        use std::sync::atomic::Ordering;
        let mut values = self.active.values().iter().take(self.cpus);
        values.all(|value| value.load(Ordering::Acquire) == self.generation)
    }
}

impl Hooks {
    /// Whether no open session misses anything because a hook does not work.
    pub fn are_whole(&self) -> bool {
        let mut stopped = self.watch.stopped.iter();
        !stopped.any(|stop| stop.reason.blinds())
    }

    /// The hooks that are found not to work since the last look.
    pub fn inspect(&mut self, look: Look) -> Vec<Stop> {
        let mut found = Vec::new();
        for list in [&mut self.always, &mut self.on_demand] {
            for attached in list.extract_if(.., |attached| !attached.is_there()) {
                found.push((attached.hook(), Reason::Detached));
                attached.forget();
            }
        }
        if look >= Look::Pins {
            self.pin_again(&mut found);
        }
        let all = self.always.iter().chain(&self.on_demand);
        let all: Vec<_> = all.map(|attached| attached.hook()).collect();
        if !self.watch.is_active() {
            found.extend(all.iter().map(|hook| (*hook, Reason::SwitchedOff)));
        }
        if look >= Look::Switches {
            let of = |hook: &&Hook| system_has(hook, &self.watch.sshd);
            let off = all.iter().filter_map(|hook| Some((*hook, of(hook)?)));
            found.extend(off);
        }
        let mut news = Vec::new();
        for (hook, reason) in found {
            if !self.watch.is_stopped(hook) {
                let stop = Stop { hook, reason };
                self.watch.stopped.push(stop);
                news.push(stop);
            }
        }
        news
    }

    /// Has the hooks work again that can; those that do.
    pub fn mend(&mut self) -> Vec<&'static Hook> {
        if self.watch.stopped.is_empty() {
            return Vec::new();
        }
        if !self.watch.is_active() {
            pins::activate(&self.watch.active, self.watch.generation);
        }
        let mut refused = None;
        let mut mended = Vec::new();
        for stop in std::mem::take(&mut self.watch.stopped) {
            let Stop { hook, reason } = stop;
            let works = match reason {
                Reason::Detached => self.attach_again(hook, &mut refused),
                Reason::SwitchedOff => self.watch.is_active(),
                Reason::ProbesOff | Reason::SshdReplaced => {
                    system_has(hook, &self.watch.sshd).is_none()
                }
                Reason::Unpinned => true,
            };
            match works {
                true => mended.push(hook),
                false => self.watch.stopped.push(stop),
            }
        }
        if let Some(error) = refused.as_ref().filter(|_| refused != self.watch.refused) {
            tracing::error!("a hook that was detached is refused, and tried again: {error}");
        }
        self.watch.refused = refused;
        mended
    }

    fn attach_again(&mut self, hook: &'static Hook, refused: &mut Option<String>) -> bool {
        if hook.on_demand && !self.demanded {
            return false;
        }
        match self.attach(hook) {
            Ok(attached) => {
                let list = match hook.on_demand {
                    true => &mut self.on_demand,
                    false => &mut self.always,
                };
                list.push(attached);
                true
            }
            Err(error) => {
                *refused = Some(error.to_string());
                false
            }
        }
    }

    /// Pins again what is not pinned any more.
    fn pin_again(&mut self, found: &mut Vec<(&'static Hook, Reason)>) {
        let Some(pins) = &self.pins else {
            return;
        };
        if let Err(error) = pins.pin_maps_again() {
            tracing::error!(%error, "maps cannot be pinned again: the next agent cannot go on with them");
            return;
        }
        for list in [&mut self.always, &mut self.on_demand] {
            let gone: Vec<_> = list.extract_if(.., |a| !a.is_pinned()).collect();
            for attached in gone {
                let hook = attached.hook();
                match attached.pin_again() {
                    Some(attached) => {
                        list.push(attached);
                        found.push((hook, Reason::Unpinned));
                    }
                    None => found.push((hook, Reason::Detached)),
                }
            }
        }
    }
}

/// What the system has done to a hook that is attached.
fn system_has(hook: &Hook, sshd: &[(&'static str, u64, u64)]) -> Option<Reason> {
    match hook.point {
        Point::Tracepoint(..) => None,
        Point::Entry(_) | Point::Return(_) | Point::Several(_) => {
            let off = |path: &&str| {
                let switch = fs::read_to_string(path);
                switch.is_ok_and(|text| text.trim() == "0")
            };
            PROBE_SWITCHES.iter().any(off).then_some(Reason::ProbesOff)
        }
        Point::Sshd(_) => (sshd_calls::programs() != sshd).then_some(Reason::SshdReplaced),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::ladder::Mode;

    #[test]
    fn a_tracepoint_has_no_switch_and_a_file_is_known_by_its_inode() {
        let sshd = sshd_calls::programs();
        for hook in Hook::of(Mode::Tracepoint) {
            assert_eq!(system_has(hook, &sshd), None);
        }
        let replaced = vec![("/usr/sbin/sshd", 0, 0)];
        let of_sshd = Hook::of(Mode::Uprobe).filter(|hook| matches!(hook.point, Point::Sshd(_)));
        for hook in of_sshd {
            assert_eq!(system_has(hook, &sshd), None);
            assert_eq!(system_has(hook, &replaced), Some(Reason::SshdReplaced));
        }
    }
}

//! The functions of single system calls, and of what is read and written, which are
//! probed where not every call of the host is to be looked at.

/// Functions that are probed together, by one program.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// What they are.
    pub name: &'static str,
    /// Where they return, not where they begin.
    pub returns: bool,
    /// Which.
    pub functions: &'static [Probed],
}

/// A function that is probed.
#[derive(Debug, PartialEq, Eq)]
pub struct Probed {
    /// Its name; alternatives separated by `|`.
    pub function: &'static str,
    /// How many calls can be under way at once, and still be seen to return.
    pub at_once: u32,
    /// Whether a kernel may have no such call.
    pub may_lack: bool,
}

/// Room for calls that can wait for something, as many programs of a host may do
/// at once. The kernel takes no more (`KRETPROBE_MAXACTIVE_MAX`).
const WAITING: u32 = 4096;
/// Room for those that only wait for a disk.
const QUICK: u32 = 512;

const fn of(function: &'static str, at_once: u32) -> Probed {
    Probed {
        function,
        at_once,
        may_lack: false,
    }
}

const fn newer(function: &'static str) -> Probed {
    Probed {
        may_lack: true,
        ..of(function, QUICK)
    }
}

/// Those whose end is of interest. On x86-64 the kernel has such a function for
/// each call since 4.17; what a program of 32 bits calls has another.
macro_rules! calls {
    ($($more:expr,)*) => {
        &[
            of("__x64_sys_openat", WAITING),
            of("__x64_sys_open", WAITING),
            of("__x64_sys_creat", QUICK),
            newer("__x64_sys_openat2"),
            of("__x64_sys_unlinkat", QUICK),
            of("__x64_sys_unlink", QUICK),
            of("__x64_sys_rmdir", QUICK),
            of("__x64_sys_renameat", QUICK),
            of("__x64_sys_renameat2", QUICK),
            of("__x64_sys_rename", QUICK),
            of("__x64_sys_fchmodat", QUICK),
            newer("__x64_sys_fchmodat2"),
            of("__x64_sys_chmod", QUICK),
            of("__x64_sys_fchmod", QUICK),
            of("__x64_sys_fchownat", QUICK),
            of("__x64_sys_chown", QUICK),
            of("__x64_sys_lchown", QUICK),
            of("__x64_sys_fchown", QUICK),
            of("__x64_sys_mkdirat", QUICK),
            of("__x64_sys_mkdir", QUICK),
            of("__x64_sys_mknodat", QUICK),
            of("__x64_sys_mknod", QUICK),
            of("__x64_sys_linkat", QUICK),
            of("__x64_sys_link", QUICK),
            of("__x64_sys_symlinkat", QUICK),
            of("__x64_sys_symlink", QUICK),
            of("__x64_sys_truncate", QUICK),
            of("__x64_sys_ftruncate", QUICK),
            of("__x64_sys_execve", QUICK),
            of("__x64_sys_execveat", QUICK),
            of("__x64_sys_sendfile64", WAITING),
            of("__x64_sys_copy_file_range", QUICK),
            of("__x64_sys_connect", WAITING),
            of("__x64_sys_listen", QUICK),
            of("__x64_sys_accept", WAITING),
            of("__x64_sys_accept4", WAITING),
            of("__x64_sys_sendto", WAITING),
            of("__x64_sys_sendmsg", WAITING),
            of("__x64_sys_sendmmsg", WAITING),
            newer("__x64_sys_ptrace"),
            newer("__x64_sys_io_uring_setup"),
            $($more,)*
        ]
    };
}

/// Where calls begin; also those whose end tells nothing more.
pub static CALLS: Group = Group {
    name: "calls",
    returns: false,
    functions: calls!(of("__x64_sys_close", 0), of("__x64_sys_lseek", 0),),
};

/// Where they return.
pub static RETURNS: Group = Group {
    name: "returns",
    returns: true,
    functions: calls!(),
};

/// All of them.
pub static GROUPS: [&Group; 3] = [&CALLS, &RETURNS, &PARTS];

/// Where what other calls ask for is done.
pub static PARTS: Group = Group {
    name: "parts",
    returns: true,
    functions: &[
        of("anon_pipe_read|pipe_read", WAITING),
        of("anon_pipe_write|pipe_write", WAITING),
        of("tty_ioctl", QUICK),
    ],
};

impl Group {
    /// What the names of its events in tracefs begin with.
    pub fn event(&self) -> String {
        format!("several_{}", self.name)
    }

    /// Whether an event is one of this group.
    pub fn has(&self, event: &str) -> bool {
        let rest = event.strip_prefix("several_");
        let rest = rest.and_then(|rest| rest.strip_prefix(self.name));
        rest.is_some_and(|rest| rest.starts_with('_'))
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.returns {
            "kretprobes"
        } else {
            "kprobes"
        };
        match self.functions {
            [first, .., last] => write!(
                f,
                "{} {kind}, {} to {}",
                self.functions.len(),
                first.function,
                last.function
            ),
            _ => write!(f, "{kind} {}", self.name),
        }
    }
}

/// The system calls that are looked at one by one, by name.
#[cfg(test)]
fn names(group: &Group) -> Vec<&'static str> {
    let functions = group.functions.iter();
    functions
        .filter_map(|probed| probed.function.strip_prefix("__x64_sys_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::file_calls;

    #[test]
    fn every_call_on_files_is_probed() {
        let table = file_calls::table(false);
        let on_files = table.iter().filter(|call| **call != 0).count();
        // All but those for sockets and uses.
        let others = [
            "connect",
            "listen",
            "accept",
            "accept4",
            "sendto",
            "sendmsg",
            "sendmmsg",
            "ptrace",
            "io_uring_setup",
        ];
        let begins = names(&CALLS);
        assert!(others.iter().all(|name| begins.contains(name)));
        assert_eq!(begins.len() - others.len(), on_files);
    }

    #[test]
    fn what_begins_returns_but_where_that_tells_nothing() {
        let returns = names(&RETURNS);
        let begins = names(&CALLS);
        let only: Vec<_> = begins.iter().filter(|n| !returns.contains(n)).collect();
        assert_eq!(only, [&"close", &"lseek"]);
        assert!(CALLS.has(&format!("{}_1f", CALLS.event())));
        assert!(!RETURNS.has("several_calls_1f"));
    }
}

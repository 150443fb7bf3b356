//! Programs that hand work to something outside the session's process tree.
//! What comes of it is not the session's; that it was asked for is.
//!
//! | program | with | to |
//! |---|---|---|
//! | `systemd-run` | anything | `systemd` |
//! | `systemctl` | [`SYSTEMCTL`] | `systemd` |
//! | `machinectl` | [`MACHINECTL`] | `systemd` |
//! | `at` (also as `batch`) | anything but listing, showing, removing | `at` |
//! | `crontab` | anything but listing, removing | `cron` |
//! | `docker`, `podman`, `nerdctl`, `ctr`, `crictl`, `lxc`, `incus`, `kubectl` | [`ENGINES`] | `container` |
//! | `busctl`, `gdbus` | `call` | `dbus` |
//! | `dbus-send` | anything | `dbus` |
//!
//! Programs are known by the name of their image, or of the link or script that
//! was started. `nsenter` and `unshare` start children of their own, which stay
//! in the session.

use auditty_recording::event::{Body, Handoff, HandoffTo};

use super::Sessions;
use super::commands::{arguments, lossy};
use super::lineage::SessionKey;
use super::sink::Sink;
use super::transfers::last_name;
use crate::capture::event::Exec;

/// What makes the service manager run something, now or later.
const SYSTEMCTL: [&str; 13] = [
    "start",
    "stop",
    "restart",
    "try-restart",
    "reload",
    "reload-or-restart",
    "try-reload-or-restart",
    "isolate",
    "enable",
    "reenable",
    "link",
    "edit",
    "set-default",
];

/// What runs something in a machine or starts one.
const MACHINECTL: [&str; 4] = ["shell", "login", "start", "enable"];

/// What runs something in a container; a word in front of it, such as
/// `container`, is in [`GROUPS`].
const ENGINES: [&str; 13] = [
    "run", "runp", "exec", "start", "restart", "create", "build", "up", "debug", "apply", "attach",
    "launch", "deploy",
];

/// Words that only say what kind of thing is meant.
const GROUPS: [&str; 9] = [
    "container",
    "compose",
    "service",
    "stack",
    "pod",
    "kube",
    "task",
    "tasks",
    "t",
];

/// Options of systemd's programs whose value is the next argument.
const SYSTEMD_VALUES: [&str; 15] = [
    "-H",
    "--host",
    "-M",
    "--machine",
    "-t",
    "--type",
    "-p",
    "--property",
    "-n",
    "--lines",
    "-s",
    "--signal",
    "-o",
    "--output",
    "--root",
];

/// Options of container programs whose value is the next argument.
const ENGINE_VALUES: [&str; 16] = [
    "-H",
    "--host",
    "-c",
    "--context",
    "--config",
    "-l",
    "--log-level",
    "--root",
    "-a",
    "--address",
    "-n",
    "--namespace",
    "-f",
    "--file",
    "--kubeconfig",
    "-s",
];

impl Sessions {
    /// Notes a program start that hands work over.
    pub(super) fn handoff(
        &mut self,
        key: SessionKey,
        (boot_ns, pid, exec_seq): (u64, u32, u64),
        exec: &Exec,
        sink: &mut dyn Sink,
    ) {
        let Some(to) = to(exec) else {
            return;
        };
        if let Some((session, mut out)) = self.open(key, sink) {
            let body = Handoff { exec_seq, pid, to };
            session.emit(&mut out, boot_ns, Body::Handoff(body));
        }
    }
}

fn to(exec: &Exec) -> Option<HandoffTo> {
    let args: Vec<String> = arguments(&exec.args).into_iter().map(lossy).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).skip(1).collect();
    let (image, given) = (last_name(&exec.exe), last_name(&exec.filename));
    // A link's name says more than its image's: `atq` is a link to `at`.
    by_name(given, &args).unwrap_or_else(|| by_name(image, &args).flatten())
}

/// The answer for a program of this name; `None` when the name is unknown.
fn by_name(name: &str, args: &[&str]) -> Option<Option<HandoffTo>> {
    let word = words(args, &SYSTEMD_VALUES).next();
    let is_one_of = |words: &[&str]| word.is_some_and(|word| words.contains(&word));
    let has_letter = |letters: &[char]| {
        let mut options = args
            .iter()
            .filter(|a| a.starts_with('-') && !a.starts_with("--"));
        options.any(|option| option.contains(letters))
    };
    let (hands_over, to) = match name {
        "systemd-run" => (!args.is_empty(), HandoffTo::Systemd),
        "systemctl" => (is_one_of(&SYSTEMCTL), HandoffTo::Systemd),
        "machinectl" => (is_one_of(&MACHINECTL), HandoffTo::Systemd),
        "at" | "batch" => (!has_letter(&['l', 'r', 'd', 'c', 'V']), HandoffTo::At),
        "atq" | "atrm" => (false, HandoffTo::At),
        "crontab" => (!has_letter(&['l', 'r', 'V', 'h']), HandoffTo::Cron),
        "docker" | "podman" | "nerdctl" | "ctr" | "crictl" | "lxc" | "incus" | "kubectl" => {
            let mut words = words(args, &ENGINE_VALUES);
            let word = words.find(|word| !GROUPS.contains(word));
            let runs = word.is_some_and(|word| ENGINES.contains(&word));
            (runs, HandoffTo::Container)
        }
        "busctl" | "gdbus" => (word == Some("call"), HandoffTo::Dbus),
        "dbus-send" => (true, HandoffTo::Dbus),
        _ => return None,
    };
    Some(hands_over.then_some(to))
}

/// The arguments that are neither options nor their values.
fn words<'a>(
    args: &'a [&'a str],
    with_value: &'static [&'static str],
) -> impl Iterator<Item = &'a str> {
    let mut value = false;
    args.iter().copied().filter(move |arg| {
        let was_value = std::mem::replace(&mut value, with_value.contains(arg));
        !was_value && !arg.starts_with('-')
    })
}

#[cfg(test)]
mod tests {
    use auditty_recording::event::HandoffTo;

    use super::to;
    use crate::capture::event::Exec;

    #[test]
    fn who_takes_what_over() {
        use HandoffTo::{At, Container, Cron, Dbus, Systemd};
        for (line, expected) in [
            ("systemd-run --user id", Some(Systemd)),
            ("systemd-run", None),
            ("systemctl --user restart nginx", Some(Systemd)),
            ("systemctl -H web-2 start nginx", Some(Systemd)),
            ("systemctl -f enable nginx", Some(Systemd)),
            ("systemctl status start", None),
            ("systemctl list-units", None),
            ("machinectl shell alice@.host", Some(Systemd)),
            ("machinectl list", None),
            ("at now", Some(At)),
            ("at -l", None),
            ("atq", None),
            ("batch", Some(At)),
            ("crontab -", Some(Cron)),
            ("crontab -u bob file", Some(Cron)),
            ("crontab -l", None),
            ("crontab -ul bob", None),
            ("docker run --rm -it alpine sh", Some(Container)),
            ("docker --context prod container exec x sh", Some(Container)),
            ("docker compose -f a.yml up", Some(Container)),
            ("docker ps", None),
            ("podman exec x id", Some(Container)),
            ("ctr -n k8s.io tasks exec x id", Some(Container)),
            ("kubectl -n run get pods", None),
            ("kubectl -n a exec p -- id", Some(Container)),
            ("lxc list", None),
            ("busctl call org.x /x x Y", Some(Dbus)),
            ("busctl tree", None),
            ("dbus-send --system x", Some(Dbus)),
            ("nsenter -t 1 -a id", None),
            ("unshare -r id", None),
            ("echo docker run", None),
        ] {
            let name = line.split(' ').next().unwrap();
            let exec = Exec {
                exe: format!("/usr/bin/{name}"),
                filename: format!("/usr/bin/{name}"),
                args: line.replace(' ', "\0").into_bytes(),
                ..Exec::default()
            };
            assert_eq!(to(&exec), expected, "{line}");
        }
    }

    #[test]
    fn links_and_scripts_are_known_by_their_own_name() {
        let exec = |exe: &str, filename: &str| Exec {
            exe: exe.into(),
            filename: filename.into(),
            args: b"x\0-\0".to_vec(),
            ..Exec::default()
        };
        assert_eq!(
            to(&exec("/bin/busybox", "/usr/bin/crontab")),
            Some(HandoffTo::Cron)
        );
        assert_eq!(to(&exec("/usr/bin/at", "/usr/bin/atq")), None);
        assert_eq!(to(&exec("/usr/bin/at", "/tmp/job")), Some(HandoffTo::At));
    }
}

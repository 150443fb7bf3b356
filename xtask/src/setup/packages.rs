//! Debian packages.

use anyhow::{Context as _, Result};

use super::{NETWORK_HINT, Outcome, announce};
use crate::workspace;

/// Package and reason.
const PACKAGES: [(&str, &str); 36] = [
    (
        "gcc",
        "links Rust programs and compiles the C parts of zstd, SQLite and aws-lc",
    ),
    ("libc6-dev", "the C headers those parts include"),
    ("make", "drives the builds of some of those parts"),
    (
        "cmake",
        "builds aws-lc where no ready-made recipe fits the machine",
    ),
    ("pkg-config", "lets build scripts find system libraries"),
    ("openssh-server", "the tests record logins to a real sshd"),
    ("openssh-client", "the tests log in with a real ssh"),
    ("sudo", "sessions change users with it"),
    ("sshpass", "types the password of test logins"),
    ("tmux", "sessions open inner terminals with it"),
    ("strace", "the independent witness of execs"),
    ("zstd", "the stock reader of chunks"),
    ("age", "the stock reader of encrypted ones"),
    ("jq", "the stock reader of their lines"),
    ("asciinema", "plays exported recordings"),
    ("iproute2", "shows the sockets the tests look at"),
    ("python3", "runs the foreign clients of the tests"),
    ("python3-venv", "keeps them apart from the system's Python"),
    ("expect", "types at prompts that insist on a terminal"),
    ("busybox-static", "is many programs in one image"),
    ("gnupg", "asks for a passphrase"),
    ("openssl", "asks for a password, and makes random ones"),
    ("postgresql-client", "asks for a password"),
    (
        "postgresql",
        "the database of a fleet's collector: tests start clusters of their own",
    ),
    ("curl", "asks for a password"),
    ("git", "asks for a password, and is transferred to and fro"),
    ("screen", "sessions open inner terminals with it"),
    ("vim", "sessions run commands inside it"),
    ("rsync", "moves files over a session"),
    ("dropbear-bin", "is another server"),
    ("xauth", "sshd needs it to forward windows"),
    ("at", "sessions hand work over to it"),
    ("cron", "sessions hand work over to it"),
    ("krb5-kdc", "gives out the tickets of logins by Kerberos"),
    ("krb5-admin-server", "makes the principals of those"),
    ("krb5-user", "fetches the tickets"),
];

/// Installs the missing ones.
pub fn ensure() -> Result<Outcome> {
    install(&PACKAGES)
}

/// Installs those of a list that are missing.
pub fn install(packages: &[(&str, &str)]) -> Result<Outcome> {
    let missing: Vec<_> = packages
        .iter()
        .filter(|(name, _)| !installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(Outcome::Present);
    }
    for (name, reason) in &missing {
        announce(&format!("install the package {name}"), reason);
    }
    apt(&["update", "-q"], "update the lists of packages")?;
    let names = missing.iter().map(|(name, _)| *name);
    let install: Vec<_> = ["install", "-q", "-y", "--no-install-recommends"]
        .into_iter()
        .chain(names)
        .collect();
    apt(&install, "install the packages")?;
    Ok(Outcome::Done)
}

/// Whether it is there.
pub fn installed(package: &str) -> bool {
    workspace::command("dpkg-query").is_ok_and(|mut query| {
        query.args(["-W", "-f", "${Status}", package]);
        workspace::output(&mut query).is_some_and(|status| status == "install ok installed")
    })
}

fn apt(arguments: &[&str], purpose: &str) -> Result<()> {
    let mut apt = workspace::command("apt-get")?;
    // Another apt may be running, as on a machine that has just booted.
    apt.args(["-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    workspace::run(&mut apt, purpose).context(NETWORK_HINT)
}

//! `auditty-agent permit`: may this user have a session now? Asked by sshd's PAM
//! stack through pam_exec, in the account phase.
//!
//! ```text
//! account required pam_exec.so quiet stdout /usr/bin/auditty-agent permit
//! ```
//!
//! Nobody is held unless `[strict]` names them: a configuration that cannot be
//! read, or a call outside of PAM, lets everybody in. Whoever is held gets in
//! while the recorder answers, and is noted for [`guard`](super::guard). A member of
//! `break_glass` gets in without it, and that is noted.

use std::env;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use super::break_glass::Use;
use super::door::{SOCKET, ask};
use super::held;
use crate::config::Config;

/// How long the recorder may take. It looks ten times a second; with what sshd
/// and PAM take, a refusal is there within a second.
pub(super) const PATIENCE: Duration = Duration::from_millis(700);

/// Whether the user of this PAM conversation may have a session. What is
/// printed is shown to the user.
pub fn permit(config: &Config) -> bool {
    let Ok(user) = env::var("PAM_USER") else {
        eprintln!("PAM_USER is not set: this is to be run by pam_exec");
        return true;
    };
    let strict = config.strict();
    if !strict.holds(&user) {
        return true;
    }
    let Err(problem) = ask(Path::new(SOCKET), PATIENCE) else {
        if !strict.breaks_glass(&user)
            && let Err(error) = held::note(Path::new(held::FOLDER), &user, held::server())
        {
            eprintln!("this login is not noted and could not be ended: {error}");
        }
        return true;
    };
    if !strict.breaks_glass(&user) {
        println!(
            "auditty: sessions of {user} are only allowed while they are recorded, and they are \
             not: {problem}."
        );
        return false;
    }
    println!("auditty: BREAK-GLASS: this session may not be recorded: {problem}. It is noted.");
    let used = Use::now(&user, &problem);
    log(&used);
    if let Err(error) = used.keep(config.host().state_directory()) {
        // Whoever breaks the glass may be here because the disk is full.
        println!("auditty: it could only be logged: {error}");
    }
    true
}

/// To the system's log, which may leave the host by itself.
pub(super) fn log(used: &Use) {
    /// `authpriv.alert` of syslog(3).
    const PRIORITY: u8 = (10 << 3) | 1;
    let line = format!("<{PRIORITY}>auditty-agent: {used}");
    let sent = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(line.as_bytes(), "/dev/log")
    });
    if let Err(error) = sent {
        eprintln!("the system's log cannot be told: {error}");
    }
}

//! `auditty-agent guard`: ends the sessions of users that `[strict]` holds while
//! nothing records them.
//!
//! A process of its own, because an agent that is dead, frozen or stuck ends
//! nothing. It asks the recorder as `permit` does, and when there was no answer, or
//! a bad one, for `strict.end_after`, it tells the sshd of each login that `permit`
//! has let in to end; what is still there at the next look is killed. Whoever may
//! break the glass stays. Like `permit`, it holds nobody by a configuration that
//! cannot be read.

use std::collections::HashSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::break_glass::Use;
use super::door::{SOCKET, ask};
use super::held::{self, Held};
use super::notify;
use super::permit::{self, PATIENCE};
use crate::config::Config;

/// How often the recorder is asked.
const LOOK: Duration = Duration::from_millis(500);

/// Guards until it is killed.
pub fn guard(path: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    super::process::start_logging(config.log())?;
    notify::ready();
    let mut silent: Option<Instant> = None;
    let mut told = HashSet::new();
    loop {
        match ask(Path::new(SOCKET), PATIENCE) {
            Ok(()) => {
                if silent.take().is_some() {
                    tracing::info!("the recorder works again");
                }
                told.clear();
            }
            Err(problem) => {
                let since = *silent.get_or_insert_with(|| {
                    tracing::warn!(problem, "the recorder does not work");
                    Instant::now()
                });
                end_all(path, &problem, since.elapsed(), &mut told);
            }
        }
        thread::sleep(LOOK);
    }
}

/// Ends every held login, where nothing has recorded for long enough.
fn end_all(path: Option<&Path>, problem: &str, silent: Duration, told: &mut HashSet<u32>) {
    let logins = held::held(Path::new(held::FOLDER));
    if logins.is_empty() {
        return;
    }
    // As it is now: it may have been changed since.
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "nobody is held by a configuration that cannot be read");
            return;
        }
    };
    let strict = config.strict();
    if silent < strict.end_after() {
        return;
    }
    for login in logins {
        if strict.holds(&login.user) && !strict.breaks_glass(&login.user) {
            end(&login, problem, &config, told);
        }
    }
}

/// Tells its server to end; the second time, kills it.
fn end(login: &Held, problem: &str, config: &Config, told: &mut HashSet<u32>) {
    let first = told.insert(login.sshd_pid);
    let signal = match first {
        true => Signal::SIGTERM,
        false => Signal::SIGKILL,
    };
    let (user, pid) = (&login.user, login.sshd_pid);
    match login.signal(signal) {
        Ok(processes) => tracing::error!(
            user, pid, %signal, processes, problem,
            "a session that has to be recorded, and is not, is told to end"
        ),
        Err(error) => tracing::error!(user, pid, %error, "a session cannot be told to end"),
    }
    if first {
        let ended = Use::ended(user, pid, problem);
        permit::log(&ended);
        if let Err(error) = ended.keep(config.host().state_directory()) {
            tracing::error!(%error, "that a session was ended could only be logged");
        }
    }
}

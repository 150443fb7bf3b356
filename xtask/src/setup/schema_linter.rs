//! buf.

use anyhow::{Context as _, Result};

use super::{NETWORK_HINT, Outcome, announce};
use crate::{buf, workspace};

/// Installs it where npm is.
pub fn ensure() -> Result<Outcome> {
    let installed = workspace::output(workspace::command(buf::program()?)?.arg("--version"));
    if installed.is_some_and(|version| version == buf::VERSION) {
        return Ok(Outcome::Present);
    }
    if workspace::find("npm").is_none() {
        return Ok(Outcome::Skipped(buf::SKIPPED));
    }
    announce(
        &format!("install buf {}", buf::VERSION),
        "it lints the protobuf schemas",
    );
    let mut npm = workspace::command("npm")?;
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(buf::folder()?)
        .arg(format!("@bufbuild/buf@{}", buf::VERSION));
    workspace::run(&mut npm, "install buf").context(NETWORK_HINT)?;
    Ok(Outcome::Done)
}

//! Python environments for the tests: a real S3 server, and clients that are
//! not ours.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{NETWORK_HINT, Outcome, announce};
use crate::workspace;

struct Environment {
    /// Folder below the tools.
    name: &'static str,
    requirements: &'static [&'static str],
    reason: &'static str,
}

const ENVIRONMENTS: [Environment; 2] = [
    Environment {
        name: "ministack",
        requirements: &["ministack==1.5.33"],
        reason: "the tests store recordings in a real S3 server that checks signatures and \
                 policies; alone, because it pins the libraries that the clients need newer",
    },
    Environment {
        name: "python",
        requirements: &[
            "grpcio==1.85.1",
            "grpcio-reflection==1.85.1",
            "boto3==1.44.5",
        ],
        reason: "the tests query the collector and read the bucket with clients that are not ours",
    },
];

/// Creates the missing ones.
pub fn ensure() -> Result<Outcome> {
    let tools = workspace::tools()?;
    let mut outcome = Outcome::Present;
    for environment in &ENVIRONMENTS {
        let folder = tools.join(environment.name);
        let wanted = environment.requirements.join("\n");
        // Written last: what was interrupted is done again.
        let stamp = folder.join("requirements.txt");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            continue;
        }
        let packages = environment.requirements.join(", ");
        announce(
            &format!("install {packages} in {}", folder.display()),
            environment.reason,
        );
        create(&folder, environment.requirements)?;
        fs::write(&stamp, wanted)
            .with_context(|| format!("could not write {}", stamp.display()))?;
        outcome = Outcome::Done;
    }
    Ok(outcome)
}

fn create(folder: &Path, requirements: &[&str]) -> Result<()> {
    workspace::run(
        workspace::command("python3")?
            .args(["-m", "venv", "--clear"])
            .arg(folder),
        "create a Python environment",
    )?;
    let mut pip = workspace::command(folder.join("bin/pip"))?;
    pip.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ])
    .args(requirements);
    workspace::run(&mut pip, "install Python packages").context(NETWORK_HINT)
}

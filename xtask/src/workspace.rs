//! Where things are, and how commands are run.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, bail};

/// The root of the checkout.
pub fn root() -> Result<PathBuf> {
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = xtask.parent().context("xtask is not inside a workspace")?;
    Ok(root.to_path_buf())
}

/// Where setup installs what does not come as a Debian package.
/// `AUDITTY_TOOLS` moves it; the agent's build script looks there as well.
pub fn tools() -> Result<PathBuf> {
    match env::var_os("AUDITTY_TOOLS") {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Ok(root()?.join("target/tools")),
    }
}

/// `PATH` with the tools in front, so that builds need nothing of the user's.
fn search_path() -> Result<OsString> {
    let mut folders = vec![tools()?.join("bin")];
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    env::join_paths(folders).context("PATH cannot be extended")
}

static LINTED: AtomicBool = AtomicBool::new(false);

/// From now on clippy compiles what is built of the workspace, and denies
/// warnings. Its driver is the compiler with more lints (and without the
/// optimizations of MIR): a check of its own would compile every dependency once
/// more.
pub fn lint_builds() {
    LINTED.store(true, Ordering::Relaxed);
}

/// A command in the root of the checkout, with the tools in its `PATH`.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    let mut command = Command::new(program);
    command.current_dir(root()?).env("PATH", search_path()?);
    if LINTED.load(Ordering::Relaxed) {
        // As `cargo clippy -- -D warnings` sets them.
        command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver").env(
            "CLIPPY_ARGS",
            "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__",
        );
    }
    Ok(command)
}

/// `cargo` of the toolchain that runs xtask.
pub fn cargo() -> Result<Command> {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a command to its end, its output on ours. `purpose` completes "could
/// not …".
pub fn run(command: &mut Command, purpose: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("could not {purpose}: {} did not start", show(command)))?;
    if !status.success() {
        bail!("could not {purpose}: {} ended with {status}", show(command));
    }
    Ok(())
}

/// The standard output of a command that succeeds, `None` when it fails or is
/// not there.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// The command as one would type it.
pub fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    format!("`{}`", words.join(" "))
}

/// The path of a program in `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders)
        .map(|folder| folder.join(program))
        .find(|path| is_file(path))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

//! What the numbers hold for.

use crate::workspace;

/// Versions of what is compared, as lines of the sheet.
pub fn lines() -> String {
    let first = |program: &str, argument: &str| {
        let mut command = workspace::command(program).ok()?;
        let text = workspace::output(command.arg(argument))?;
        text.lines().next().map(str::to_owned)
    };
    let revision = workspace::command("git").ok().and_then(|mut git| {
        workspace::output(git.args(["describe", "--always", "--dirty", "--abbrev=12"]))
    });
    let versions = [
        ("auditty", revision),
        ("script", first("script", "--version")),
        ("tlog", first("tlog-rec", "--version")),
        ("sudo", first("sudo", "--version")),
        ("asciinema", first("asciinema", "--version")),
    ];
    versions
        .into_iter()
        .filter_map(|(name, version)| Some(format!("fact\t{name}\t{}\n", version?)))
        .collect()
}

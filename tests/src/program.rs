//! Small C programs of `tests/programs`: what no shell can do.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::scene::{Scene, output};

/// Compiles `tests/programs/NAME.c` into the scene, with these flags besides;
/// every user may run it. Where there is no compiler, `AUDITTY_PROGRAMS` is a
/// folder that has it as `auditty-NAME`.
pub fn compile(scene: &Scene, name: &str, flags: &[&str]) -> Result<PathBuf> {
    if let Ok(folder) = env::var("AUDITTY_PROGRAMS") {
        let program = Path::new(&folder).join(format!("auditty-{name}"));
        return fs::canonicalize(&program).with_context(|| program.display().to_string());
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("programs")
        .join(name)
        .with_extension("c");
    let program = scene.path(name);
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-static"])
        .args(flags)
        .arg("-o")
        .arg(&program)
        .arg(source);
    output(&mut gcc)?;
    Ok(program)
}

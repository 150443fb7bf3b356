//! Small C programs of `tests/programs`: what no shell can do.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::scene::{Scene, output};

/// Compiles `tests/programs/NAME.c` into the scene, with these flags besides;
/// every user may run it.
pub fn compile(scene: &Scene, name: &str, flags: &[&str]) -> Result<PathBuf> {
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

//! bpf-linker, built against the LLVM that rustc brings along.
//!
//! It must match rustc's LLVM exactly, and distributions have another one. The
//! toolchain holds the shared library; `LLVM_PREFIX` points bpf-linker's build
//! to a folder in which it has the name that the build looks for, and the
//! runtime path points into the toolchain.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{NETWORK_HINT, Outcome, announce, rust};
use crate::workspace;

/// The version that is tested with the pinned compiler, and the LLVM it needs.
const VERSION: &str = "0.13.0";
const LLVM_FEATURE: &str = "llvm-22";

/// Builds it unless it is there and runs.
pub fn ensure() -> Result<Outcome> {
    let tools = workspace::tools()?;
    let program = tools.join("bin/bpf-linker");
    // It runs only as long as the toolchain's LLVM is where it was.
    let version = workspace::output(workspace::command(&program)?.arg("--version"));
    if version.is_some_and(|version| version.ends_with(VERSION)) {
        return Ok(Outcome::Present);
    }
    announce(
        &format!("build bpf-linker {VERSION} (about a minute)"),
        "it links the kernel programs and must match the LLVM of the pinned rustc",
    );
    let sysroot = rust::sysroot()?;
    let prefix = tools.join("llvm");
    link_llvm(&sysroot, &prefix)?;
    install(&sysroot, &prefix, &tools)?;
    Ok(Outcome::Done)
}

/// Makes the folder that looks like an LLVM installation.
fn link_llvm(sysroot: &Path, prefix: &Path) -> Result<()> {
    let library = llvm_of(sysroot)?;
    for folder in ["lib", "lib64"] {
        let folder = prefix.join(folder);
        fs::create_dir_all(&folder)
            .with_context(|| format!("could not create {}", folder.display()))?;
        let link = folder.join("libLLVM.so");
        if link.is_symlink() {
            fs::remove_file(&link)
                .with_context(|| format!("could not replace {}", link.display()))?;
        }
        symlink(&library, &link).with_context(|| format!("could not create {}", link.display()))?;
    }
    Ok(())
}

/// rustc's LLVM, such as `libLLVM.so.22.1-rust-1.95.0-stable`.
fn llvm_of(sysroot: &Path) -> Result<PathBuf> {
    let folder = sysroot.join("lib");
    fs::read_dir(&folder)
        .with_context(|| format!("could not read {}", folder.display()))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("libLLVM.so.") && name.contains("-rust-"))
        })
        .with_context(|| {
            format!(
                "{} has no libLLVM.so.*-rust-*: the toolchain is not one of rustup's; install \
                 rustup from https://rustup.rs, then run `cargo xtask setup` again",
                folder.display()
            )
        })
}

fn install(sysroot: &Path, prefix: &Path, tools: &Path) -> Result<()> {
    let build = tools.join("build");
    let mut cargo = workspace::cargo()?;
    cargo
        .args([
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--force",
            "--quiet",
        ])
        .args([
            "--no-default-features",
            "--features",
            LLVM_FEATURE,
            "--root",
        ])
        .arg(tools)
        .arg("--target-dir")
        .arg(&build)
        .env("LLVM_PREFIX", prefix)
        .env(
            "RUSTFLAGS",
            format!("-C link-arg=-Wl,-rpath,{}/lib", sysroot.display()),
        );
    workspace::run(&mut cargo, "build bpf-linker").context(NETWORK_HINT)?;
    fs::remove_dir_all(&build).with_context(|| format!("could not remove {}", build.display()))
}

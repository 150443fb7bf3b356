//! Builds the kernel programs of `capture-ebpf` for the BPF target; the agent
//! embeds the object `capture` from `OUT_DIR`.
//!
//! aya-build wants a nightly compiler for `-Z build-std`. The pinned stable one
//! does it as well when `RUSTC_BOOTSTRAP` allows it, and setting the variable
//! here keeps it away from every other crate.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use aya_build::{Package, Toolchain};

/// The channel of `rust-toolchain.toml`: bpf-linker is built against its LLVM.
const TOOLCHAIN: &str = "1.95.0";

fn main() -> anyhow::Result<()> {
    let agent = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("not run by cargo")?);
    let workspace = agent.parent().context("the agent is not in a workspace")?;
    let programs = workspace.join("capture-ebpf");
    let programs = programs
        .to_str()
        .context("the path of the workspace is not UTF-8")?;
    let path = search_path(workspace)?;

    // SAFETY: this build script has only its main thread here, so that nothing
    // else can be reading the environment.
    unsafe {
        env::set_var("PATH", path);
        env::set_var("RUSTC_BOOTSTRAP", "1");
    }
    aya_build::build_ebpf(
        [Package {
            name: "auditty-capture-ebpf",
            root_dir: programs,
            ..Package::default()
        }],
        Toolchain::Custom(TOOLCHAIN),
    )
}

/// `PATH` with the tools that `cargo xtask setup` built in front.
fn search_path(workspace: &Path) -> anyhow::Result<OsString> {
    println!("cargo:rerun-if-env-changed=AUDITTY_TOOLS");
    let tools = match env::var_os("AUDITTY_TOOLS") {
        Some(folder) => PathBuf::from(folder),
        None => workspace.join("target/tools"),
    };
    let mut folders = vec![tools.join("bin")];
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    if !folders
        .iter()
        .any(|folder| folder.join("bpf-linker").is_file())
    {
        bail!(
            "bpf-linker, which links the kernel programs, is neither in {} nor in PATH: \
             run `cargo xtask setup`, which builds it",
            tools.join("bin").display()
        );
    }
    env::join_paths(folders).context("PATH cannot be extended")
}

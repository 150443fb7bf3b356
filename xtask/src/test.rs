//! `cargo xtask test`.

use anyhow::Result;

use crate::{buf, build, report::Report, setup, vm, workspace};

/// Runs every test that can run on this machine
///
/// Sets up and builds what is missing, then: `unit`, the tests of every crate,
/// with a real S3 server for those that store; `lint`, rustfmt, clippy (which
/// compiles all that is tested; the kernel programs on their own target) and buf;
/// `e2e`, real logins to a real sshd, one test after the other; `capture`, the
/// capture suite on this machine's kernel; `vm`, on other kernels, emulated: the
/// whole suite on one, on the others the part under stress (`cargo xtask vm` runs
/// more). The last line counts; anything that failed makes the exit status
/// non-zero.
#[derive(clap::Args)]
pub struct Arguments {
    /// Run only these
    #[arg(long, value_enum)]
    only: Vec<Suite>,
    /// Run only tests whose name contains this
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Suite {
    /// The tests of every crate
    Unit,
    /// Format and lints
    Lint,
    /// Real logins on this machine
    E2e,
    /// The capture suite on this machine's kernel
    Capture,
    /// The capture suite on other kernels
    Vm,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::ready()?;
    let chosen = |suite| arguments.only.is_empty() || arguments.only.contains(&suite);
    let filter = arguments.filter.as_deref();
    let mut report = Report::default();
    workspace::lint_builds();
    if chosen(Suite::Lint) && filter.is_none() {
        lint(&mut report)?;
    }
    if chosen(Suite::Unit) {
        unit(&mut report, filter)?;
    }
    if chosen(Suite::E2e) {
        end_to_end(&mut report, filter)?;
    }
    if chosen(Suite::Capture) && filter.is_none() {
        vm::native_suite(&mut report);
    }
    if chosen(Suite::Vm) && filter.is_none() {
        vm::suite(&mut report)?;
    }
    report.finish()
}

/// The tests of every crate. `with-s3` starts an S3 server and hands its
/// address and keys to them in the environment.
fn unit(report: &mut Report, filter: Option<&str>) -> Result<()> {
    if let Err(error) = build::rig() {
        report.fail("unit: the test rig", &error);
        return Ok(());
    }
    let with_s3 = workspace::root()?.join("target/release/with-s3");
    let mut test = workspace::command(with_s3)?;
    test.args([
        "cargo",
        "test",
        "--release",
        "--locked",
        "--no-fail-fast",
        "--",
    ]);
    test.args(filter);
    report.tests("unit", &mut test)
}

fn end_to_end(report: &mut Report, filter: Option<&str>) -> Result<()> {
    if let Err(error) = build::tested_products() {
        report.fail("e2e: the product", &error);
        return Ok(());
    }
    let mut test = workspace::cargo()?;
    test.args([
        "test",
        "--release",
        "--locked",
        "--no-fail-fast",
        "--package",
        "auditty-tests",
    ]);
    // One at a time: an agent records every sshd of the machine.
    test.args(["--", "--test-threads=1"]).args(filter);
    report.tests("e2e", &mut test)
}

fn lint(report: &mut Report) -> Result<()> {
    report.check(
        "lint: rustfmt",
        workspace::cargo()?.args(["fmt", "--all", "--check"]),
    );
    let tests = ["test", "--release", "--locked", "--no-run"];
    report.check("lint: clippy, building", workspace::cargo()?.args(tests));
    report.check(
        "lint: clippy, building the end-to-end tests",
        workspace::cargo()?
            .args(tests)
            .args(["--package", "auditty-tests"]),
    );
    report.check(
        "lint: clippy of the kernel programs",
        workspace::cargo()?
            .args([
                "clippy",
                "--release",
                "--locked",
                "--package",
                "auditty-capture-ebpf",
            ])
            .args([
                "--bin",
                "capture",
                "--target",
                "bpfel-unknown-none",
                "-Z",
                "build-std=core",
            ])
            // In a folder of its own: with other variables set, build scripts run
            // again, and whatever depends on them is compiled again.
            .args(["--target-dir", "target/kernel-programs"])
            .args(["--", "-D", "warnings"])
            .env("RUSTC_BOOTSTRAP", "1")
            .env(
                "RUSTFLAGS",
                r#"--cfg=bpf_target_arch="x86_64" -Cdebuginfo=2 -Clink-arg=--btf"#,
            ),
    );
    let buf = buf::program()?;
    if buf.exists() {
        report.check(
            "lint: buf",
            workspace::command(&buf)?.args(["lint", "proto"]),
        );
        // What clients in use were built with; `buf build proto -o` makes it anew.
        report.check(
            "lint: buf breaking",
            workspace::command(buf)?.args([
                "breaking",
                "proto",
                "--against",
                "proto/baseline.binpb",
            ]),
        );
    } else {
        report.skip("lint: buf", buf::SKIPPED);
    }
    Ok(())
}

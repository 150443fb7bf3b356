//! Runs a command with an S3 server for it: `with-s3 cargo test …`.
//!
//! `AUDITTY_TEST_S3_ENDPOINT` and `AUDITTY_TEST_S3_BUCKET` say where it is (the
//! bucket has Object Lock; the one with `-plain` behind its name has nothing), the
//! usual AWS variables hold a key that may write and read, and
//! `AUDITTY_TEST_S3_WRITER_KEY_ID` and `AUDITTY_TEST_S3_WRITER_SECRET` one that
//! may only put objects.
#![forbid(unsafe_code)]

use std::{env, process::Command};

use anyhow::{Context as _, Result};
use auditty_tests::{
    Scene,
    s3::{BUCKET, S3},
};

fn main() -> Result<()> {
    let mut words = env::args_os().skip(1);
    let program = words.next().context("usage: with-s3 COMMAND…")?;
    let scene = Scene::new()?;
    let s3 = S3::start_for(&scene, "*")?;
    let status = Command::new(program)
        .args(words)
        .envs(s3.admin.environment())
        .env("AUDITTY_TEST_S3_ENDPOINT", &s3.endpoint)
        .env("AUDITTY_TEST_S3_BUCKET", BUCKET)
        .env("AUDITTY_TEST_S3_WRITER_KEY_ID", &s3.writer.id)
        .env("AUDITTY_TEST_S3_WRITER_SECRET", &s3.writer.secret)
        .status()
        .context("the command did not start")?;
    drop(s3);
    drop(scene);
    std::process::exit(status.code().unwrap_or(1));
}

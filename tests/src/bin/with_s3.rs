//! Runs a command with an S3 server for it: `with-s3 cargo test …`.
//!
//! Bucket, prefix, endpoint and the keys of a user that may only put and one
//! that may only read are in its environment as `AUDITTY_TEST_S3_…`.
#![forbid(unsafe_code)]

use std::{env, process::Command};

use anyhow::{Context as _, Result};
use auditty_tests::{
    Scene,
    s3::{BUCKET, PREFIX, REGION, S3},
};

fn main() -> Result<()> {
    let mut words = env::args_os().skip(1);
    let program = words.next().context("usage: with-s3 COMMAND…")?;
    let scene = Scene::new()?;
    let s3 = S3::start(&scene)?;
    let status = Command::new(program)
        .args(words)
        .env("AUDITTY_TEST_S3_ENDPOINT_URL", &s3.endpoint)
        .env("AUDITTY_TEST_S3_REGION", REGION)
        .env("AUDITTY_TEST_S3_BUCKET", BUCKET)
        .env("AUDITTY_TEST_S3_PREFIX", PREFIX)
        .env("AUDITTY_TEST_S3_ACCESS_KEY_ID", &s3.writer.id)
        .env("AUDITTY_TEST_S3_SECRET_ACCESS_KEY", &s3.writer.secret)
        .env("AUDITTY_TEST_S3_READER_ACCESS_KEY_ID", &s3.reader.id)
        .env(
            "AUDITTY_TEST_S3_READER_SECRET_ACCESS_KEY",
            &s3.reader.secret,
        )
        .status()
        .context("the command did not start")?;
    drop(s3);
    drop(scene);
    std::process::exit(status.code().unwrap_or(1));
}

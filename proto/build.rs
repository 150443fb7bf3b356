//! Compiles the schemas with protox, so that building needs no protoc.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const SCHEMAS: [&str; 4] = [
    "auditty/v1/activity.proto",
    "auditty/v1/session.proto",
    "auditty/v1/session_service.proto",
    "auditty/v1/ingest_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=auditty");
    let descriptors = protox::compile(SCHEMAS, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("auditty.v1.bin"), descriptors.encode_to_vec())?;

    let mut prost = tonic_prost_build::Config::new();
    prost.enable_type_names();
    tonic_prost_build::configure().compile_fds_with_config(descriptors, prost)?;
    Ok(())
}

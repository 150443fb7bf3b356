//! Compiles the schemas with protox, so that building needs no protoc, and makes
//! the table of who may call which method from their options.

use std::{env, error::Error, fmt::Write as _, fs, path::PathBuf};

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage as _, Value};

const SCHEMAS: [&str; 12] = [
    "auditty/v1/access.proto",
    "auditty/v1/activity.proto",
    "auditty/v1/alert_service.proto",
    "auditty/v1/audit_service.proto",
    "auditty/v1/coverage_service.proto",
    "auditty/v1/evidence_service.proto",
    "auditty/v1/grant_service.proto",
    "auditty/v1/host_service.proto",
    "auditty/v1/login_service.proto",
    "auditty/v1/session.proto",
    "auditty/v1/session_service.proto",
    "auditty/v1/ingest_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=auditty");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(SCHEMAS)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let encoded = compiler.encode_file_descriptor_set();
    fs::write(
        out.join("access.rs"),
        access(&DescriptorPool::decode(encoded.as_slice())?)?,
    )?;
    fs::write(out.join("auditty.v1.bin"), encoded)?;

    let mut prost = tonic_prost_build::Config::new();
    prost.enable_type_names();
    prost.btree_map([
        ".auditty.v1.Host.labels",
        ".auditty.v1.Alert.labels",
        ".auditty.v1.AccessGrant.host_labels",
    ]);
    let descriptors = compiler.file_descriptor_set();
    tonic_prost_build::configure().compile_fds_with_config(descriptors, prost)?;
    Ok(())
}

/// The table of methods, as an expression in Rust.
fn access(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let services = pool.services();
    let ours = services.filter(|service| service.package_name() == "auditty.v1");
    let mut table = String::from("&[\n");
    for method in ours.flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let access = option(pool, &method).ok_or(format!("{path}: needs the option (access)"))?;
        let roles = roles(&access).ok_or(format!("{path}: (access) names no role"))?;
        let unrecorded = access
            .get_field_by_name("unrecorded")
            .is_some_and(|value| value.as_bool() == Some(true));
        let recorded = !unrecorded;
        writeln!(
            table,
            "Method {{ path: {path:?}, roles: &[{roles}], recorded: {recorded} }},"
        )?;
    }
    table.push(']');
    Ok(table)
}

fn option(pool: &DescriptorPool, method: &MethodDescriptor) -> Option<DynamicMessage> {
    let extension = pool.get_extension_by_name("auditty.v1.access")?;
    let options = method.options();
    match options.get_extension(&extension).as_ref() {
        Value::Message(access) => Some(access.clone()),
        _ => None,
    }
}

/// Paths of the enumeration's values, in Rust, joined by commas.
fn roles(access: &DynamicMessage) -> Option<String> {
    let field = access.descriptor().get_field_by_name("roles")?;
    let kind = field.kind();
    let role = kind.as_enum()?;
    let value = access.get_field(&field);
    let numbers = value.as_list()?.iter().map(Value::as_enum_number);
    let names = numbers.map(|number| match number {
        Some(number @ 1..) => {
            let value = role.get_value(number)?;
            let name = value.name().strip_prefix("ROLE_")?;
            let words = name.split('_').map(|word| {
                let (first, rest) = word.split_at(1);
                first.to_owned() + &rest.to_ascii_lowercase()
            });
            Some(format!("v1::Role::{}", words.collect::<String>()))
        }
        _ => None,
    });
    let names: Vec<_> = names.collect::<Option<_>>()?;
    (!names.is_empty()).then(|| names.join(", "))
}

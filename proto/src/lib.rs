//! `auditty.v1`, the one language that agent, collector and CLI speak: the
//! generated messages, clients and servers, and what all three need to mean the
//! same thing by them.
//!
//! - [`access`]: who may call which method
//! - [`convert`]: the recording's model → messages
//! - [`json`]: any message → canonical proto3 JSON
//! - [`filter`]: the filter language, its fields, and its evaluation in memory
//! - [`names`]: short names of enum values and parts of resource names
//! - [`page_token`]: opaque page tokens
#![forbid(unsafe_code)]

pub mod access;
pub mod convert;
pub mod filter;
pub mod json;
pub mod names;
pub mod page_token;

/// The generated code.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated code is as its generator writes it"
)]
pub mod v1 {
    tonic::include_proto!("auditty.v1");

    /// The schemas with their imports and comments, as an encoded
    /// `google.protobuf.FileDescriptorSet`; for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/auditty.v1.bin"));
}

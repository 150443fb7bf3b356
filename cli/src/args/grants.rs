//! `auditty grants`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Paging;

/// `auditty grants`.
#[derive(Args, Debug)]
pub struct Grants {
    /// What to do
    #[command(subcommand)]
    pub verb: GrantVerb,
}

/// What to do with grants.
#[derive(Debug, Subcommand)]
pub enum GrantVerb {
    /// List them, those changed last first
    List(ListGrants),
    /// Everything known about one
    Show(ShowGrant),
    /// Create one; the same again changes nothing
    Create(Box<CreateGrant>),
    /// Create those of files, as an agent reads them: YAML, JSON or TOML
    Import(ImportGrants),
    /// Withdraw one, from now on
    Revoke(RevokeGrant),
    /// Tell what there is, and then every change
    Watch(WatchGrants),
}

/// `auditty grants list`.
#[derive(Args, Debug)]
pub struct ListGrants {
    /// Only those that have begun and are not over
    #[arg(long)]
    pub in_force: bool,
    #[command(flatten)]
    pub paging: Paging,
}

/// `auditty grants show`.
#[derive(Args, Debug)]
pub struct ShowGrant {
    /// Its request id
    pub request_id: String,
    /// Whose, if you see several tenants
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
}

/// `auditty grants create`.
#[derive(Args, Debug)]
pub struct CreateGrant {
    /// Id of the request in the system that approved it
    pub request_id: String,
    /// Who approved; may be given several times, as may all lists here
    #[arg(long = "approver", value_name = "NAME", required = true)]
    pub approvers: Vec<String>,
    /// Who asked
    #[arg(long, value_name = "NAME", default_value = "")]
    pub requester: String,
    /// Through which access flow
    #[arg(long, value_name = "FLOW", default_value = "")]
    pub access_flow: String,
    /// Why
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Reference in a ticket system
    #[arg(long, default_value = "")]
    pub ticket: String,
    /// Unix user it covers, `*` as a wildcard
    #[arg(long = "user", value_name = "NAME")]
    pub users: Vec<String>,
    /// Fingerprint of a key it covers, as `ssh-keygen -l` prints it
    #[arg(long = "key", value_name = "SHA256:…")]
    pub keys: Vec<String>,
    /// Key id of a certificate it covers; for serials and authorities, import a
    /// file
    #[arg(long = "certificate-id", value_name = "ID")]
    pub certificate_ids: Vec<String>,
    /// Host name or id it covers, `*` as a wildcard; without any, every host
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Label a host must have, `*` as a wildcard in its value
    #[arg(long = "host-label", value_name = "NAME=VALUE", value_parser = label)]
    pub host_labels: Vec<(String, String)>,
    /// Valid from: `2026-01-31 12:00`, RFC 3339, or `2h` (ago); without, always
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Valid until; without this or --for, for ever
    #[arg(long, value_name = "TIME", conflicts_with = "lasting")]
    pub until: Option<String>,
    /// Valid for so long from now on, such as `4h`
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::moment::duration)]
    pub lasting: Option<std::time::Duration>,
    /// Tenant whose agents use it, if you see several
    #[arg(long, value_name = "NAME", default_value = "")]
    pub tenant: String,
}

fn label(text: &str) -> Result<(String, String), String> {
    let label = text.split_once('=').filter(|(name, _)| !name.is_empty());
    label
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "give NAME=VALUE".to_owned())
}

/// `auditty grants import`.
#[derive(Args, Debug)]
pub struct ImportGrants {
    /// The files; nothing is created while one of them has a fault
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Tenant whose agents use them, if you see several
    #[arg(long, value_name = "NAME", default_value = "")]
    pub tenant: String,
}

/// `auditty grants revoke`.
#[derive(Args, Debug)]
pub struct RevokeGrant {
    /// Its request id
    pub request_id: String,
    /// Why
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Whose, if you see several tenants
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
}

/// `auditty grants watch`.
#[derive(Args, Debug)]
pub struct WatchGrants {
    /// Only what changes from now on
    #[arg(long)]
    pub new: bool,
}

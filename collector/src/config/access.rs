//! `[tls]`, `[oidc]`, `[[api_tokens]]`, `[webhook]` and `[limits]`: who may
//! connect.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use crate::{
    access::{ApiToken, Jwks, Limits, OidcSettings, TlsFiles, role},
    listen::ListenAddress,
    webhook::SecretFile,
};

/// What is accepted for a role.
const ROLES: &str = "agent, viewer, auditor, grant-writer or admin";
/// What is accepted for a tenant.
const TENANT: &str = "name one, or \"*\" for all of them";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_crl: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOidc {
    issuer: String,
    audience: String,
    jwks: String,
    name_claim: Option<String>,
    roles_claim: Option<String>,
    tenant_claim: Option<String>,
    tenant: Option<String>,
    roles: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApiToken {
    name: String,
    roles: Vec<String>,
    tenant: String,
    sha256: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWebhook {
    listen: Vec<String>,
    #[serde(default)]
    secrets: Vec<RawSecret>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSecret {
    name: String,
    tenant: String,
    file: PathBuf,
}

/// `[webhook]`: where grants are pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where, at least one address.
    pub listen: Vec<ListenAddress>,
    /// Shared secrets.
    pub secrets: Vec<SecretFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    requests_per_second: Option<f64>,
    burst: Option<f64>,
}

/// A key, and what is accepted for it.
pub(in crate::config) type Wrong = (&'static str, String);

impl RawTls {
    pub(super) fn check(self) -> Result<TlsFiles, Wrong> {
        if self.client_crl.is_some() && self.client_ca.is_none() {
            let reason = "needs `client_ca`, whose certificates it revokes";
            return Err(("tls.client_crl", reason.to_owned()));
        }
        Ok(TlsFiles {
            certificate: self.certificate,
            key: self.key,
            client_ca: self.client_ca,
            client_crl: self.client_crl,
        })
    }
}

impl RawOidc {
    pub(super) fn check(self) -> Result<OidcSettings, Wrong> {
        let jwks = match self.jwks.split_once("://") {
            Some(("https", _)) => Jwks::Url(self.jwks),
            None if self.jwks.starts_with('/') => Jwks::File(self.jwks.into()),
            _ => {
                let reason = "must be an https:// URL or the absolute path of a file";
                return Err(("oidc.jwks", reason.to_owned()));
            }
        };
        let tenant = match (&self.tenant_claim, self.tenant) {
            (Some(_), None) => None,
            (None, Some(tenant)) => some_tenant(tenant, "oidc.tenant")?,
            _ => {
                let reason = format!("{TENANT}; or `tenant_claim` instead, not both");
                return Err(("oidc.tenant", reason));
            }
        };
        let roles = self.roles.into_iter().map(|(value, name)| {
            let role = role(&name).ok_or_else(|| ("oidc.roles", format!("must be {ROLES}")))?;
            Ok((value, role))
        });
        Ok(OidcSettings {
            issuer: self.issuer,
            audience: self.audience,
            jwks,
            name_claim: self.name_claim.unwrap_or_else(|| "email".to_owned()),
            roles_claim: self.roles_claim.unwrap_or_else(|| "groups".to_owned()),
            tenant_claim: self.tenant_claim,
            tenant,
            roles: roles.collect::<Result<_, Wrong>>()?,
        })
    }
}

impl RawApiToken {
    pub(super) fn check(self) -> Result<ApiToken, Wrong> {
        let roles: Option<Vec<_>> = self.roles.iter().map(|name| role(name)).collect();
        let roles = roles.filter(|roles| !roles.is_empty()).ok_or_else(|| {
            (
                "api_tokens.roles",
                format!("must be one or more of {ROLES}"),
            )
        })?;
        let sha256 = hash(&self.sha256).ok_or_else(|| {
            let reason = "must be the SHA-256 of the token, 64 hexadecimal digits";
            ("api_tokens.sha256", reason.to_owned())
        })?;
        if self.name.is_empty() {
            return Err(("api_tokens.name", "must not be empty".to_owned()));
        }
        Ok(ApiToken {
            name: self.name,
            roles,
            tenant: some_tenant(self.tenant, "api_tokens.tenant")?,
            sha256,
        })
    }
}

impl RawWebhook {
    pub(super) fn check(self) -> Result<WebhookSettings, Wrong> {
        let listen = self
            .listen
            .iter()
            .map(|address| address.parse::<ListenAddress>());
        let listen: Vec<_> = listen
            .collect::<Result<_, _>>()
            .map_err(|reason| ("webhook.listen", reason))?;
        if listen.is_empty() {
            let reason = "must name at least one address, such as \"0.0.0.0:7444\"";
            return Err(("webhook.listen", reason.to_owned()));
        }
        let secrets = self.secrets.into_iter().map(|secret| {
            if secret.name.is_empty() {
                let reason = "must not be empty".to_owned();
                return Err(("webhook.secrets.name", reason));
            }
            Ok(SecretFile {
                name: secret.name,
                tenant: some_tenant(secret.tenant, "webhook.secrets.tenant")?,
                path: secret.file,
            })
        });
        Ok(WebhookSettings {
            listen,
            secrets: secrets.collect::<Result<_, Wrong>>()?,
        })
    }
}

impl RawLimits {
    pub(super) fn check(&self) -> Result<Limits, Wrong> {
        let default = Limits::default();
        let limits = Limits {
            requests_per_second: self
                .requests_per_second
                .unwrap_or(default.requests_per_second),
            burst: self.burst.unwrap_or(default.burst),
        };
        let sound = |number: f64| (1.0..=1e6).contains(&number);
        for (key, number) in [
            ("limits.requests_per_second", limits.requests_per_second),
            ("limits.burst", limits.burst),
        ] {
            if !sound(number) {
                return Err((key, "must be 1 to 1000000".to_owned()));
            }
        }
        Ok(limits)
    }
}

fn some_tenant(tenant: String, key: &'static str) -> Result<Option<String>, Wrong> {
    match tenant.as_str() {
        "" => Err((key, TENANT.to_owned())),
        "*" => Ok(None),
        _ => Ok(Some(tenant)),
    }
}

fn hash(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(hash)
}

//! A client certificate → who it is: its one SPIFFE id says it.

use auditty_proto::v1::Role;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::{Principal, Proof, tokens::role};

const SCHEME: &str = "spiffe://";
/// What the path of an id of ours begins with.
const APPLICATION: &str = "auditty";
/// Longest name, in bytes; so long is a host's id.
const MAX_NAME_LEN: usize = 255;

/// Reads a verified certificate (DER).
pub(super) fn principal(certificate: &[u8]) -> Result<Principal, String> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("the certificate does not parse: {error}"))?;
    let mut ids = certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
            _ => None,
        });
    match (ids.next(), ids.next()) {
        (Some(id), None) => parse(id),
        (None, _) => Err("the certificate has no SPIFFE id among its alternative names".to_owned()),
        (Some(_), Some(_)) => Err("the certificate has more than one SPIFFE id".to_owned()),
    }
}

/// `spiffe://TENANT/auditty/ROLE/NAME`
fn parse(id: &str) -> Result<Principal, String> {
    let wrong = || {
        format!(
            "the SPIFFE id {:?} is not of the form spiffe://TENANT/auditty/ROLE/NAME",
            id.escape_debug().to_string()
        )
    };
    let rest = id.strip_prefix(SCHEME).ok_or_else(wrong)?;
    let parts: Vec<_> = rest.split('/').collect();
    let [tenant, APPLICATION, role_name, name] = parts[..] else {
        return Err(wrong());
    };
    let sound = |part: &str| {
        (1..=MAX_NAME_LEN).contains(&part.len())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-@+:".contains(&byte))
    };
    let role: Role = role(role_name).ok_or_else(wrong)?;
    if !sound(tenant) || !sound(name) {
        return Err(wrong());
    }
    Ok(Principal {
        name: name.to_owned(),
        tenant: Some(tenant.to_owned()),
        roles: vec![role],
        proof: Proof::Certificate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_says_tenant_role_and_name() {
        let principal = parse("spiffe://acme/auditty/agent/web-1").unwrap();
        assert_eq!(principal.name, "web-1");
        assert_eq!(principal.tenant.as_deref(), Some("acme"));
        assert_eq!(principal.roles, [Role::Agent]);
        assert_eq!(principal.host(), Some("web-1"));
        let principal = parse("spiffe://acme.example/auditty/grant-writer/flow@acme").unwrap();
        assert_eq!(principal.roles, [Role::GrantWriter]);
    }

    #[test]
    fn anything_else_is_nobody() {
        for id in [
            "spiffe://acme/auditty/agent",
            "spiffe://acme/auditty/agent/",
            "spiffe:///auditty/agent/web-1",
            "spiffe://acme/auditty/root/web-1",
            "spiffe://acme/auditty/unspecified/web-1",
            "spiffe://acme/other/agent/web-1",
            "spiffe://acme/auditty/agent/web-1/more",
            "spiffe://acme/auditty/agent/web 1",
            "spiffe://acme/auditty/agent/web%2f1",
            "https://acme/auditty/agent/web-1",
        ] {
            assert!(parse(id).is_err(), "{id}");
        }
    }
}

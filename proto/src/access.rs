//! Who may call which method, as the schemas say it. The table is made at build
//! time, which fails for a method without roles.

use crate::v1;

/// Metadata of a call: what the caller says it is for, in at most
/// [`MAX_PURPOSE_LEN`] characters of `a` to `z`, `0` to `9` and `-`.
pub const PURPOSE: &str = "auditty-purpose";
/// Longest purpose of a call, in characters.
pub const MAX_PURPOSE_LEN: usize = 64;

/// A method of `auditty.v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its path over HTTP/2, `/auditty.v1.Service/Method`.
    pub path: &'static str,
    /// Who may call it: any of these; never empty.
    pub roles: &'static [v1::Role],
    /// Successful calls leave an audit record.
    pub recorded: bool,
}

/// All methods.
pub const METHODS: &[Method] = include!(concat!(env!("OUT_DIR"), "/access.rs"));

/// The method at a path.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_report_follow_grants_and_do_nothing_else() {
        let agents = METHODS
            .iter()
            .filter(|method| method.roles.contains(&v1::Role::Agent));
        let mut paths: Vec<_> = agents.map(|method| method.path).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "/auditty.v1.GrantService/WatchGrants",
                "/auditty.v1.IngestService/Report"
            ]
        );
        let report = method("/auditty.v1.IngestService/Report").unwrap();
        assert_eq!(report.roles, [v1::Role::Agent]);
    }

    #[test]
    fn grants_are_written_by_platforms_and_admins() {
        for name in ["CreateGrant", "RevokeGrant"] {
            let path = format!("/auditty.v1.GrantService/{name}");
            let roles = method(&path).unwrap().roles;
            assert_eq!(roles, [v1::Role::GrantWriter, v1::Role::Admin]);
        }
    }

    #[test]
    fn whoever_views_may_not_do_more_than_auditors_and_admins() {
        for method in METHODS
            .iter()
            .filter(|m| m.roles.contains(&v1::Role::Viewer))
        {
            for role in [v1::Role::Auditor, v1::Role::Admin] {
                assert!(method.roles.contains(&role), "{}: {role:?}", method.path);
            }
        }
    }
}

//! Who may call which method, as the schemas say it. The table is made at build
//! time, which fails for a method without roles.

use crate::v1;

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
    fn agents_report_and_do_nothing_else() {
        let agents: Vec<_> = METHODS
            .iter()
            .filter(|method| method.roles.contains(&v1::Role::Agent))
            .collect();
        assert!(
            agents
                .iter()
                .any(|method| method.path == "/auditty.v1.IngestService/Report")
        );
        for method in agents {
            assert_eq!(method.roles, [v1::Role::Agent], "{}", method.path);
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

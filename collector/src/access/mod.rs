//! Who calls, and what they may. Everything is denied but what the schema allows
//! one of the caller's roles ([`auditty_proto::access`]).
//!
//! ```text
//! connection → peer       Unix or loopback socket of root's or the collector's own user
//!              certificate  its SPIFFE id: spiffe://TENANT/auditty/ROLE/NAME
//! request    → bearer token  API token, or JSON Web Token of an identity provider
//!                  ↓
//!              Principal → gate: roles of the method, rate → the service, which
//!                          sees only what belongs to the principal's tenant
//! ```
//!
//! A certificate's name is the host's id for the role `agent`, and a person's or
//! platform's name for the others. Nothing that a message says changes who sent
//! it: a report of another host or tenant is refused.

mod certificate;
mod connection;
mod gate;
mod handshakes;
mod limits;
mod local;
mod tally;
mod tls;
mod tokens;

use std::{fmt, net::SocketAddr};

use auditty_proto::{names::ShortName, v1::Role};
use tonic::{Request, Status};

use crate::store::Scope;

pub use gate::{Asked, Gate};
pub use limits::Limits;
pub use tls::{Tls, TlsError, TlsFiles};
pub use tokens::{ApiToken, Jwks, OidcSettings, Tokens, TokensError, role};

pub(crate) use connection::{Protocols, incoming};
pub(crate) use gate::code_name;

/// Somebody whose identity was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Name of the person or platform, or id of the host.
    pub name: String,
    /// Whose sessions it sees and reports; `None` sees those of all tenants.
    pub tenant: Option<String>,
    /// What it may be, at least one.
    pub roles: Vec<Role>,
    /// How the identity was proved.
    pub proof: Proof,
}

/// How an identity was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A local socket of root's or the collector's own user.
    Local,
    /// A client certificate.
    Certificate,
    /// An API token.
    ApiToken,
    /// A token of an identity provider.
    Jwt,
    /// A signature with a shared secret.
    Signature,
}

impl fmt::Display for Proof {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Local => "local",
            Self::Certificate => "certificate",
            Self::ApiToken => "api_token",
            Self::Jwt => "jwt",
            Self::Signature => "signature",
        })
    }
}

impl Principal {
    /// Root, or the collector's own user, on the machine itself.
    pub fn local(uid: u32) -> Self {
        Self {
            name: format!("uid:{uid}"),
            tenant: None,
            roles: vec![
                Role::Agent,
                Role::Viewer,
                Role::Auditor,
                Role::GrantWriter,
                Role::Admin,
            ],
            proof: Proof::Local,
        }
    }

    /// Whether it is one of these.
    pub fn is_any_of(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.roles.contains(role))
    }

    /// Whose sessions it may see.
    pub fn scope(&self) -> Scope {
        match &self.tenant {
            None => Scope::All,
            Some(tenant) => Scope::Tenant(tenant.clone()),
        }
    }

    /// The tenant of what it writes.
    pub fn tenant(&self) -> &str {
        self.tenant.as_deref().unwrap_or("")
    }

    /// The one host it may report for; `None` for any, which only the machine's
    /// own users may.
    pub fn host(&self) -> Option<&str> {
        match self.proof {
            Proof::Local => None,
            _ => Some(&self.name),
        }
    }

    /// Short names of its roles, joined by commas.
    pub fn role_names(&self) -> String {
        let names: Vec<_> = self.roles.iter().map(|role| role.short_name()).collect();
        names.join(",")
    }

    /// Who sent a request. A service that is not behind the gate serves nobody.
    pub fn of<T>(request: &Request<T>) -> Result<&Self, Status> {
        request
            .extensions()
            .get::<Self>()
            .ok_or_else(|| Status::unauthenticated("nobody is known to have sent this"))
    }
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Where from: `address:port`, or `unix:uid=0`.
    pub(crate) address: String,
    /// Its network address, for limits on who is not known.
    pub(crate) ip: Option<SocketAddr>,
    /// Who it is, where the connection itself proves it.
    pub(crate) principal: Option<Principal>,
    /// Why it is nobody, where something was wrong with the proof.
    pub(crate) problem: Option<String>,
}

//! Bearer tokens → who it is: API tokens, of which only a hash is configured,
//! and JSON Web Tokens of an OpenID Connect provider.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use auditty_proto::{names::ShortName, v1::Role};
use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, Jwk, JwkSet},
};
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Principal, Proof};

/// Longest token that is looked at, in bytes.
const MAX_TOKEN_LEN: usize = 16 * 1024;
/// Largest key set, in bytes.
const MAX_KEY_SET_LEN: usize = 1024 * 1024;
/// Clocks may differ by as much, seconds.
const LEEWAY: u64 = 30;
/// How often a key set is fetched anew.
const REFRESH: Duration = Duration::from_secs(300);
/// Shortest time between two fetches, however many unknown keys are named.
const PAUSE: Duration = Duration::from_secs(10);
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The role of a name: `viewer`, `grant-writer`.
pub fn role(name: &str) -> Option<Role> {
    let name = name.replace('-', "_");
    [
        Role::Agent,
        Role::Viewer,
        Role::Auditor,
        Role::GrantWriter,
        Role::Admin,
    ]
    .into_iter()
    .find(|role| role.short_name() == name)
}

/// A token that was handed out by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Who has it; of an agent, its host's id.
    pub name: String,
    /// What it may be.
    pub roles: Vec<Role>,
    /// Whose sessions it sees; `None` for all.
    pub tenant: Option<String>,
    /// SHA-256 of the token, which is long and random.
    pub sha256: [u8; 32],
}

/// Where the provider's public keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwks {
    /// A file.
    File(PathBuf),
    /// An `https` URL.
    Url(String),
}

/// An identity provider, and what its claims mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcSettings {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must have.
    pub audience: String,
    /// Its keys.
    pub jwks: Jwks,
    /// The claim with the person's name.
    pub name_claim: String,
    /// The claim with groups or roles, one text or a list.
    pub roles_claim: String,
    /// The claim with the tenant, instead of `tenant`.
    pub tenant_claim: Option<String>,
    /// The tenant of all its people; `None` for all tenants.
    pub tenant: Option<String>,
    /// Value of the claim → role. Values not named here mean nothing.
    pub roles: BTreeMap<String, Role>,
}

/// The key set could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the key set {place}: {reason}")]
pub struct TokensError {
    place: String,
    reason: String,
}

/// All tokens that are taken.
#[derive(Debug, Default)]
pub struct Tokens {
    api: Vec<ApiToken>,
    oidc: Option<Oidc>,
}

#[derive(Debug)]
struct Oidc {
    settings: OidcSettings,
    keys: RwLock<JwkSet>,
    unknown_key: Notify,
}

impl Tokens {
    /// Takes these; no key of the provider is known before [`Tokens::watch`].
    pub fn new(api: Vec<ApiToken>, oidc: Option<OidcSettings>) -> Self {
        let oidc = oidc.map(|settings| Oidc {
            settings,
            keys: RwLock::new(JwkSet { keys: Vec::new() }),
            unknown_key: Notify::new(),
        });
        Self { api, oidc }
    }

    /// Whether any token could be taken.
    pub fn is_empty(&self) -> bool {
        self.api.is_empty() && self.oidc.is_none()
    }

    /// Who a token stands for, or why it stands for nobody.
    pub(super) fn principal(&self, token: &str) -> Result<Principal, String> {
        if token.len() > MAX_TOKEN_LEN {
            return Err("the token is too long".to_owned());
        }
        let hash = digest(&SHA256, token.as_bytes());
        if let Some(found) = self.api.iter().find(|api| api.sha256 == hash.as_ref()) {
            return Ok(Principal {
                name: found.name.clone(),
                tenant: found.tenant.clone(),
                roles: found.roles.clone(),
                proof: Proof::ApiToken,
            });
        }
        match &self.oidc {
            Some(oidc) => oidc.principal(token),
            None => Err("the token is not known".to_owned()),
        }
    }

    /// Reads the provider's keys now, and again from time to time until
    /// `shutdown`. While they cannot be had, those known before hold.
    pub(crate) async fn watch(&self, shutdown: &CancellationToken) {
        let Some(oidc) = &self.oidc else {
            return;
        };
        let _ = shutdown.run_until_cancelled(oidc.keep_fresh()).await;
    }

    /// Reads the provider's keys now.
    pub async fn refresh(&self) -> Result<(), TokensError> {
        match &self.oidc {
            Some(oidc) => oidc.refresh().await,
            None => Ok(()),
        }
    }
}

impl Oidc {
    async fn keep_fresh(&self) {
        let mut failing = false;
        loop {
            match self.refresh().await {
                Ok(()) if failing => tracing::info!("the key set is there again"),
                Ok(()) => {}
                Err(error) if !failing => tracing::error!("{error}"),
                Err(error) => tracing::debug!("{error}"),
            }
            tokio::time::sleep(PAUSE).await;
            // A file costs nothing to read, and a failure wants another try.
            let file = matches!(self.settings.jwks, Jwks::File(_));
            failing = self.known().is_none();
            if !file && !failing {
                let asked = self.unknown_key.notified();
                let _ = tokio::time::timeout(REFRESH, asked).await;
            }
        }
    }

    /// `None` while no key is known.
    fn known(&self) -> Option<()> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        (!keys.keys.is_empty()).then_some(())
    }

    async fn refresh(&self) -> Result<(), TokensError> {
        let failed = |place: &str, reason: String| TokensError {
            place: place.to_owned(),
            reason,
        };
        let (place, bytes) = match &self.settings.jwks {
            Jwks::File(path) => {
                let place = path.display().to_string();
                let bytes = tokio::fs::read(path).await;
                let bytes = bytes.map_err(|error| failed(&place, error.to_string()))?;
                (place, bytes)
            }
            Jwks::Url(url) => {
                let bytes = fetch(url).await;
                (url.clone(), bytes.map_err(|reason| failed(url, reason))?)
            }
        };
        let keys: JwkSet = serde_json::from_slice(&bytes)
            .map_err(|error| failed(&place, format!("not a JSON Web Key Set: {error}")))?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    fn principal(&self, token: &str) -> Result<Principal, String> {
        let refused = |error: jsonwebtoken::errors::Error| format!("the token is refused: {error}");
        let header = decode_header(token).map_err(|_| "the token is not known".to_owned())?;
        let key = self.key(header.kid.as_deref())?;
        // The key says which algorithms it is for, never the token alone.
        if !algorithms(&key).contains(&header.alg) {
            return Err("the token's algorithm is not one of its key's".to_owned());
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        let decoding = DecodingKey::from_jwk(&key).map_err(refused)?;
        let claims =
            decode::<Map<String, Value>>(token, &decoding, &validation).map_err(refused)?;
        self.settings.principal(&claims.claims)
    }

    fn key(&self, id: Option<&str>) -> Result<Jwk, String> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let found = match (id, &keys.keys[..]) {
            (Some(id), _) => keys.find(id),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        if found.is_none() {
            self.unknown_key.notify_one();
        }
        found
            .cloned()
            .ok_or_else(|| "the token's key is not among the provider's".to_owned())
    }
}

/// Asymmetric ones only: a public key is no shared secret.
fn algorithms(key: &Jwk) -> Vec<Algorithm> {
    let kinds = match key.algorithm {
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ][..],
        AlgorithmParameters::EllipticCurve(_) => &[Algorithm::ES256, Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
        _ => &[],
    };
    let named = key.common.key_algorithm.map(|named| named.to_string());
    let fits = |algorithm: &&Algorithm| {
        named
            .as_ref()
            .is_none_or(|named| format!("{algorithm:?}") == *named)
    };
    kinds.iter().filter(fits).copied().collect()
}

impl OidcSettings {
    fn principal(&self, claims: &Map<String, Value>) -> Result<Principal, String> {
        let text = |claim: &str| match claims.get(claim).and_then(Value::as_str) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(format!("the token has no claim {claim:?}")),
        };
        let tenant = match &self.tenant_claim {
            Some(claim) => Some(text(claim)?),
            None => self.tenant.clone(),
        };
        let groups = match claims.get(&self.roles_claim) {
            Some(Value::String(group)) => vec![group.as_str()],
            Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let mut roles: Vec<_> = groups
            .into_iter()
            .filter_map(|group| self.roles.get(group).copied())
            .collect();
        roles.sort();
        roles.dedup();
        if roles.is_empty() {
            let claim = &self.roles_claim;
            return Err(format!(
                "no value of the token's claim {claim:?} means a role"
            ));
        }
        Ok(Principal {
            name: text(&self.name_claim)?,
            tenant,
            roles,
            proof: Proof::Jwt,
        })
    }
}

async fn fetch(url: &str) -> Result<Vec<u8>, String> {
    let why = |error: reqwest::Error| error.to_string();
    let client = reqwest::Client::builder()
        .timeout(FETCH_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(why)?;
    let answer = client.get(url).send().await.map_err(why)?;
    let mut answer = answer.error_for_status().map_err(why)?;
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(why)? {
        bytes.extend_from_slice(&part);
        if bytes.len() > MAX_KEY_SET_LEN {
            return Err("larger than 1 MiB".to_owned());
        }
    }
    Ok(bytes)
}

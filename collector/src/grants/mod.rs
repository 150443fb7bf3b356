//! `GrantService`: access platforms create and revoke grants, agents follow them.

mod watcher;

use std::pin::Pin;

use auditty_grants::GrantRule;
use auditty_proto::{
    convert, names, page_token,
    v1::{self, grant_service_server::GrantService},
};
use futures::{Stream, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    access::{Asked, Principal},
    latest::Latest,
    query::{failed, limit, position},
    store::{Change, Scope, Store},
};
use watcher::Watcher;

const DEFAULT_GRANTS: usize = 50;
/// Longest reason of a revocation, bytes.
const MAX_REASON_LEN: usize = 4096;
/// Longest name of a tenant, bytes; so long are those in certificates.
const MAX_TENANT_LEN: usize = 255;

/// The service over a store.
#[derive(Clone, Debug)]
pub struct Grants {
    store: Store,
    latest: Latest,
    shutdown: CancellationToken,
}

impl Grants {
    /// Answers from this store, and the work of noticing what other collectors
    /// over the same database change. Streams and work end with `shutdown`.
    pub fn new(store: Store, shutdown: CancellationToken) -> (Self, impl Future<Output = ()>) {
        let latest = Latest::default();
        let noticing = latest.clone().look(shutdown.clone(), {
            let store = store.clone();
            move || {
                let store = store.clone();
                async move { Ok(store.grant_revision().await?.revision) }
            }
        });
        let service = Self {
            store,
            latest,
            shutdown,
        };
        (service, noticing)
    }

    /// Creates a grant for a caller; the same one again changes nothing.
    pub(crate) async fn create(
        &self,
        caller: &Principal,
        asked: &v1::AccessGrant,
    ) -> Result<v1::AccessGrant, Status> {
        let rule = GrantRule::from_message(asked)
            .map_err(|fault| Status::invalid_argument(format!("grant: {fault}")))?;
        let revoker = match rule.grant.revoked_at {
            Some(_) => caller.name.clone(),
            None => String::new(),
        };
        let grant = v1::AccessGrant {
            name: names::grant_name(&rule.grant.request_id),
            tenant: tenant_of(caller, &asked.tenant)?.to_owned(),
            create_time: Some(convert::timestamp(Timestamp::now())),
            creator: caller.name.clone(),
            revoker,
            ..rule.to_message()
        };
        match self.store.create_grant(&grant).await.map_err(failed)? {
            Change::Made(grant) => {
                self.latest.tell(grant.revision);
                Ok(grant)
            }
            Change::Found(found) if is_of(&found, &rule) => {
                self.revoke_as(caller, found, rule).await
            }
            Change::Found(_) => Err(Status::already_exists(format!(
                "there is another grant with the request id {:?}",
                rule.grant.request_id
            ))),
        }
    }

    /// A grant that is there and comes again with a revocation that is news.
    async fn revoke_as(
        &self,
        caller: &Principal,
        found: v1::AccessGrant,
        rule: GrantRule,
    ) -> Result<v1::AccessGrant, Status> {
        match rule.grant.revoked_at {
            Some(at) => self.revoke_at(caller, &found, at, "").await,
            None => Ok(found),
        }
    }

    /// Withdraws a grant for a caller.
    pub(crate) async fn revoke(
        &self,
        caller: &Principal,
        request: v1::RevokeGrantRequest,
    ) -> Result<v1::AccessGrant, Status> {
        if request.reason.len() > MAX_REASON_LEN {
            return Err(Status::invalid_argument(format!(
                "reason: must have at most {MAX_REASON_LEN} bytes"
            )));
        }
        let known = self.find(caller, &request.name, request.tenant).await?;
        let now = Timestamp::now();
        self.revoke_at(caller, &known, now, &request.reason).await
    }

    /// Withdraws a grant as of a moment, unless it is withdrawn as of an earlier
    /// one.
    async fn revoke_at(
        &self,
        caller: &Principal,
        known: &v1::AccessGrant,
        at: Timestamp,
        reason: &str,
    ) -> Result<v1::AccessGrant, Status> {
        let id = request_id(&known.name)?;
        let revoke = |grant: &mut v1::AccessGrant| {
            let approved = grant.grant.get_or_insert_default();
            let revoked = approved.revoked_time.as_ref();
            let revoked = revoked.and_then(convert::from_timestamp);
            let news = revoked.is_none_or(|revoked| revoked > at);
            if news {
                approved.revoked_time = Some(convert::timestamp(at));
                grant.revoker.clone_from(&caller.name);
                reason.clone_into(&mut grant.revoke_reason);
            }
            news
        };
        let changed = self.store.change_grant(&known.tenant, id, revoke).await;
        match changed.map_err(failed)?.ok_or_else(|| not_found(id))? {
            Change::Made(grant) => {
                self.latest.tell(grant.revision);
                Ok(grant)
            }
            Change::Found(grant) => Ok(grant),
        }
    }

    /// The one grant of a name that a caller sees.
    async fn find(
        &self,
        caller: &Principal,
        name: &str,
        tenant: Option<String>,
    ) -> Result<v1::AccessGrant, Status> {
        let id = request_id(name)?;
        let scope = match tenant {
            None => caller.scope(),
            Some(tenant) => Scope::Tenant(tenant_of(caller, &tenant)?.to_owned()),
        };
        let found = self.store.grants_of_request(&scope, id).await;
        let mut found = found.map_err(failed)?.into_iter();
        match (found.next(), found.next()) {
            (Some(grant), None) => Ok(grant),
            (None, _) => Err(not_found(id)),
            (Some(_), Some(_)) => Err(Status::invalid_argument(format!(
                "tenant: several have a grant with the request id {id:?}; say which"
            ))),
        }
    }
}

#[tonic::async_trait]
impl GrantService for Grants {
    async fn create_grant(
        &self,
        request: Request<v1::CreateGrantRequest>,
    ) -> Result<Response<v1::CreateGrantResponse>, Status> {
        Asked::note(&request);
        let caller = Principal::of(&request)?;
        let asked = request.get_ref().grant.as_ref();
        let asked = asked.ok_or_else(|| Status::invalid_argument("grant: is missing"))?;
        let grant = Some(self.create(caller, asked).await?);
        Ok(Response::new(v1::CreateGrantResponse { grant }))
    }

    async fn get_grant(
        &self,
        request: Request<v1::GetGrantRequest>,
    ) -> Result<Response<v1::GetGrantResponse>, Status> {
        Asked::note(&request);
        let caller = Principal::of(&request)?.clone();
        let v1::GetGrantRequest { name, tenant } = request.into_inner();
        let grant = Some(self.find(&caller, &name, tenant).await?);
        Ok(Response::new(v1::GetGrantResponse { grant }))
    }

    async fn list_grants(
        &self,
        request: Request<v1::ListGrantsRequest>,
    ) -> Result<Response<v1::ListGrantsResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let v1::ListGrantsRequest {
            page_size,
            page_token,
            in_force,
        } = request.into_inner();
        let limit = limit(page_size, DEFAULT_GRANTS)?;
        let of = ["ListGrants", if in_force { "in force" } else { "" }];
        let before = position(&of, &page_token, |key| {
            key.try_into().ok().map(u64::from_be_bytes)
        })?;
        let now = in_force.then(|| nanoseconds(Timestamp::now()));
        let page = self.store.grants(&allowed, before, now, limit).await;
        let page = page.map_err(failed)?;
        let last = page.items.last().filter(|_| page.more);
        let next_page_token = last.map_or_else(String::new, |last| {
            page_token::encode(&of, &last.revision.to_be_bytes())
        });
        Ok(Response::new(v1::ListGrantsResponse {
            grants: page.items,
            next_page_token,
        }))
    }

    async fn revoke_grant(
        &self,
        request: Request<v1::RevokeGrantRequest>,
    ) -> Result<Response<v1::RevokeGrantResponse>, Status> {
        Asked::note(&request);
        let caller = Principal::of(&request)?.clone();
        let grant = Some(self.revoke(&caller, request.into_inner()).await?);
        Ok(Response::new(v1::RevokeGrantResponse { grant }))
    }

    type WatchGrantsStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchGrantsResponse, Status>> + Send>>;

    async fn watch_grants(
        &self,
        request: Request<v1::WatchGrantsRequest>,
    ) -> Result<Response<Self::WatchGrantsStream>, Status> {
        Asked::note(&request);
        let scope = watcher::scope(Principal::of(&request)?, &request.get_ref().host_id)?;
        let watcher = Watcher::new(self, scope, &request.get_ref().resume_token).await?;
        let answers = stream::try_unfold(watcher, Watcher::next);
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Whose grants a caller writes, who names a tenant or none.
fn tenant_of<'a>(caller: &'a Principal, named: &'a str) -> Result<&'a str, Status> {
    match &caller.tenant {
        Some(own) if named.is_empty() || named == own => Ok(own),
        Some(own) => Err(Status::permission_denied(format!(
            "tenant: must be {own:?}, the caller's"
        ))),
        None if named.len() > MAX_TENANT_LEN || named.chars().any(char::is_control) => {
            Err(Status::invalid_argument(format!(
                "tenant: must have at most {MAX_TENANT_LEN} bytes and no control characters"
            )))
        }
        None => Ok(named),
    }
}

/// Whether a grant that is kept is the one that was asked for, which a
/// revocation does not change.
fn is_of(kept: &v1::AccessGrant, asked: &GrantRule) -> bool {
    GrantRule::from_message(kept).is_ok_and(|mut kept| {
        kept.grant.revoked_at = asked.grant.revoked_at;
        kept == *asked
    })
}

fn request_id(name: &str) -> Result<&str, Status> {
    let id = name.strip_prefix("grants/").filter(|id| !id.is_empty());
    id.ok_or_else(|| Status::invalid_argument("name: must be grants/ and a request id"))
}

fn nanoseconds(moment: Timestamp) -> i64 {
    i64::try_from(moment.as_nanosecond()).unwrap_or(i64::MAX)
}

fn not_found(id: &str) -> Status {
    Status::not_found(format!("there is no grant with the request id {id:?}"))
}

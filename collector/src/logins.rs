//! `LoginService`: logins that came to nothing.

use auditty_proto::{
    filter::Filter,
    page_token,
    v1::{self, login_service_server::LoginService},
};
use tonic::{Request, Response, Status};

use crate::{
    access::{Asked, Principal},
    query::{failed, invalid_filter, limit, position},
    store::{FailedLoginPosition, Store, nanoseconds},
};

const DEFAULT_LOGINS: usize = 100;

/// The service over a store.
#[derive(Clone, Debug)]
pub struct Logins {
    store: Store,
}

impl Logins {
    /// Answers from this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl LoginService for Logins {
    async fn list_failed_logins(
        &self,
        request: Request<v1::ListFailedLoginsRequest>,
    ) -> Result<Response<v1::ListFailedLoginsResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let v1::ListFailedLoginsRequest {
            page_size,
            page_token,
            filter: filter_text,
        } = request.into_inner();
        let limit = limit(page_size, DEFAULT_LOGINS)?;
        let filter = Filter::failed_logins(&filter_text).map_err(invalid_filter)?;
        let scope = ["ListFailedLogins", &filter_text];
        let after = position(&scope, &page_token, read_position)?;
        let page = self
            .store
            .failed_logins(&allowed, &filter, after.as_ref(), limit);
        let page = page.await.map_err(failed)?;
        let last = page.items.last().filter(|_| page.more);
        let next_page_token = last.map_or_else(String::new, |last| {
            page_token::encode(&scope, &write_position(last))
        });
        Ok(Response::new(v1::ListFailedLoginsResponse {
            failed_logins: page.items,
            next_page_token,
        }))
    }
}

fn write_position(login: &v1::FailedLogin) -> Vec<u8> {
    let start_ns = login.start_time.as_ref().and_then(nanoseconds);
    let names = (&login.host_id, &login.tenant, &login.failed_login_id);
    serde_json::to_vec(&(start_ns.unwrap_or_default(), names)).unwrap_or_default()
}

fn read_position(key: &[u8]) -> Option<FailedLoginPosition> {
    let (start_ns, (host_id, tenant, id)) = serde_json::from_slice(key).ok()?;
    Some(FailedLoginPosition {
        start_ns,
        host_id,
        tenant,
        id,
    })
}

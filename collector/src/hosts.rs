//! `HostService`: which hosts there are, and whether they are heard of.

use auditty_proto::{
    filter::Filter,
    page_token,
    v1::{self, HostState, host_service_server::HostService},
};
use tonic::{Request, Response, Status};

use crate::{
    access::{Asked, Principal},
    query::{failed, invalid_filter, limit, position},
    store::{HostName, Scope, Store},
};

const DEFAULT_HOSTS: usize = 100;

/// The service over a store.
#[derive(Clone, Debug)]
pub struct Hosts {
    store: Store,
}

impl Hosts {
    /// Answers from this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl HostService for Hosts {
    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let state = request.get_ref().state;
        let silent = match HostState::try_from(state) {
            Ok(HostState::Unspecified) => None,
            Ok(HostState::Live) => Some(false),
            Ok(HostState::Silent) => Some(true),
            Err(_) => return Err(Status::invalid_argument("state: is none")),
        };
        let v1::ListHostsRequest {
            page_size,
            page_token,
            filter: filter_text,
            ..
        } = request.into_inner();
        let limit = limit(page_size, DEFAULT_HOSTS)?;
        let filter = Filter::hosts(&filter_text).map_err(invalid_filter)?;
        let of = ["ListHosts", &state.to_string(), &filter_text];
        let after = position(&of, &page_token, host_position)?;
        let page = self
            .store
            .hosts(&allowed, &filter, silent, after.as_ref(), limit);
        let page = page.await.map_err(failed)?;
        let last = page.items.last().filter(|_| page.more);
        let next_page_token =
            last.map_or_else(String::new, |last| page_token::encode(&of, &host_key(last)));
        Ok(Response::new(v1::ListHostsResponse {
            hosts: page.items,
            next_page_token,
        }))
    }

    async fn get_host(
        &self,
        request: Request<v1::GetHostRequest>,
    ) -> Result<Response<v1::GetHostResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let v1::GetHostRequest { name, tenant } = request.into_inner();
        let id = name.strip_prefix("hosts/").filter(|id| !id.is_empty());
        let id =
            id.ok_or_else(|| Status::invalid_argument("name: must be hosts/ and a host id"))?;
        let scope = match (allowed, tenant) {
            (Scope::All, Some(tenant)) => Scope::Tenant(tenant),
            (allowed, _) => allowed,
        };
        let found = self.store.hosts_with_id(&scope, id).await;
        let mut found = found.map_err(failed)?.into_iter();
        match (found.next(), found.next()) {
            (Some(host), None) => Ok(Response::new(v1::GetHostResponse { host: Some(host) })),
            (None, _) => Err(Status::not_found(format!("there is no host {id:?}"))),
            (Some(_), Some(_)) => Err(Status::invalid_argument(format!(
                "tenant: several have a host {id:?}; say which"
            ))),
        }
    }
}

/// Length of the tenant (4 bytes, big endian), the tenant, and the host's id.
fn host_key(host: &v1::KnownHost) -> Vec<u8> {
    let id = host.host.as_ref().map_or("", |host| &host.host_id);
    let len = u32::try_from(host.tenant.len()).unwrap_or(u32::MAX);
    [&len.to_be_bytes(), host.tenant.as_bytes(), id.as_bytes()].concat()
}

fn host_position(key: &[u8]) -> Option<HostName> {
    let (len, rest) = key.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (tenant, host_id) = rest.split_at_checked(len)?;
    Some(HostName {
        tenant: String::from_utf8(tenant.to_vec()).ok()?,
        host_id: String::from_utf8(host_id.to_vec()).ok()?,
    })
}

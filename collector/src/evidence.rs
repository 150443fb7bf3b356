//! `EvidenceService`: what the collector vouches for, and what hosts have
//! registered with it.

use std::collections::BTreeMap;

use auditty_proto::{
    page_token,
    v1::{self, evidence_service_server::EvidenceService},
};
use auditty_recording::key;
use tonic::{Request, Response, Status};

use crate::{
    access::{Asked, Principal},
    countersign::Countersigner,
    ingest::MAX_ID_LEN,
    query::{failed, limit, position, session_id},
    store::{Accepted, Cause, HostName, HostPosition, Page, ReceiptPosition, Store},
};

/// Most findings of one report.
const MAX_FINDINGS: usize = 1000;
/// Longest kind of a finding, bytes.
const MAX_KIND_LEN: usize = 64;
/// Longest key or words of a finding, bytes.
const MAX_TEXT_LEN: usize = 4096;

/// Receipts, keys or digests on a page.
const DEFAULT_ITEMS: usize = 1000;

/// The service over a store.
#[derive(Clone, Debug)]
pub struct Evidence {
    store: Store,
    signer: Countersigner,
}

impl Evidence {
    /// Answers from this store, with the key of this signer.
    pub fn new(store: Store, signer: Countersigner) -> Self {
        Self { store, signer }
    }
}

#[tonic::async_trait]
impl EvidenceService for Evidence {
    async fn list_receipts(
        &self,
        request: Request<v1::ListReceiptsRequest>,
    ) -> Result<Response<v1::ListReceiptsResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let v1::ListReceiptsRequest {
            parent,
            host_id,
            page_size,
            page_token,
        } = request.into_inner();
        let session = match parent.as_str() {
            "" => None,
            parent => Some(session_id("parent", parent)?),
        };
        let limit = limit(page_size, DEFAULT_ITEMS)?;
        let scope = ["ListReceipts", &parent, &host_id];
        let after = position(&scope, &page_token, read_position)?;
        let page = self
            .store
            .receipts(&allowed, session, &host_id, after.as_ref(), limit)
            .await;
        let page = page.map_err(failed)?;
        let last = page.items.last().filter(|_| page.more);
        let next_page_token = last.map_or_else(String::new, |last| {
            page_token::encode(&scope, write_position(last).as_bytes())
        });
        Ok(Response::new(v1::ListReceiptsResponse {
            receipts: page.items,
            next_page_token,
        }))
    }

    async fn get_collector_key(
        &self,
        request: Request<v1::GetCollectorKeyRequest>,
    ) -> Result<Response<v1::GetCollectorKeyResponse>, Status> {
        Asked::note(&request);
        let public_key = self.signer.public().to_string();
        Ok(Response::new(v1::GetCollectorKeyResponse { public_key }))
    }

    async fn list_host_keys(
        &self,
        request: Request<v1::ListHostKeysRequest>,
    ) -> Result<Response<v1::ListHostKeysResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let v1::ListHostKeysRequest {
            host_id,
            page_size,
            page_token,
        } = request.into_inner();
        let limit = limit(page_size, DEFAULT_ITEMS)?;
        let scope = ["ListHostKeys", &host_id];
        let after = position(&scope, &page_token, read_host_position)?;
        let page = self
            .store
            .host_keys(&allowed, &host_id, after.as_ref(), limit);
        let (keys, next_page_token) = split(&scope, page.await.map_err(failed)?);
        Ok(Response::new(v1::ListHostKeysResponse {
            keys,
            next_page_token,
        }))
    }

    async fn accept_host_key(
        &self,
        request: Request<v1::AcceptHostKeyRequest>,
    ) -> Result<Response<v1::AcceptHostKeyResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let v1::AcceptHostKeyRequest {
            host_id,
            fingerprint,
        } = request.into_inner();
        let accepted = self.store.accept_key(&allowed, &host_id, &fingerprint);
        match accepted.await.map_err(failed)? {
            Accepted::Keys(count) => Ok(Response::new(v1::AcceptHostKeyResponse {
                accepted_count: u32::try_from(count).unwrap_or(u32::MAX),
            })),
            Accepted::Unknown => Err(Status::not_found(format!(
                "the host {host_id:?} has not reported a key {fingerprint:?}"
            ))),
            Accepted::Contradicted => Err(Status::failed_precondition(format!(
                "another key of the host {host_id:?} counts in the place of {fingerprint:?}"
            ))),
        }
    }

    async fn report_findings(
        &self,
        request: Request<v1::ReportFindingsRequest>,
    ) -> Result<Response<v1::ReportFindingsResponse>, Status> {
        Asked::note(&request);
        let caller = Principal::of(&request)?.clone();
        let findings = request.into_inner().findings;
        if findings.is_empty() || findings.len() > MAX_FINDINGS {
            let must = format!("findings: must be 1 to {MAX_FINDINGS}");
            return Err(Status::invalid_argument(must));
        }
        let mut hosts: BTreeMap<String, Vec<(HostName, String)>> = BTreeMap::new();
        let mut causes = Vec::new();
        for (index, finding) in findings.iter().enumerate() {
            let host_id = check_finding(finding).map_err(|(field, problem)| {
                Status::invalid_argument(format!("findings[{index}].{field}: {problem}"))
            })?;
            if !hosts.contains_key(&host_id) {
                let known = self.named(&caller, &host_id).await?;
                hosts.insert(host_id.clone(), known);
            }
            let session = key::session_of(&finding.object);
            let session = session.map_or_else(String::new, |key| key.session_id().to_string());
            let of = hosts.get(&host_id).into_iter().flatten();
            causes.extend(of.map(|(host, hostname)| {
                Cause::verification_failed(host, hostname, &session, finding)
            }));
        }
        self.store.note(&causes).await.map_err(failed)?;
        Ok(Response::new(v1::ReportFindingsResponse {}))
    }

    async fn list_digest_heads(
        &self,
        request: Request<v1::ListDigestHeadsRequest>,
    ) -> Result<Response<v1::ListDigestHeadsResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let v1::ListDigestHeadsRequest {
            host_id,
            page_size,
            page_token,
        } = request.into_inner();
        let limit = limit(page_size, DEFAULT_ITEMS)?;
        let scope = ["ListDigestHeads", &host_id];
        let after = position(&scope, &page_token, read_host_position)?;
        let page = self
            .store
            .digest_heads(&allowed, &host_id, after.as_ref(), limit);
        let (heads, next_page_token) = split(&scope, page.await.map_err(failed)?);
        Ok(Response::new(v1::ListDigestHeadsResponse {
            heads,
            next_page_token,
        }))
    }
}

impl Evidence {
    /// The hosts with an id that a caller sees, with what they call themselves; one
    /// that was never heard of is of the caller's tenant.
    async fn named(
        &self,
        caller: &Principal,
        host_id: &str,
    ) -> Result<Vec<(HostName, String)>, Status> {
        let known = self.store.hosts_with_id(&caller.scope(), host_id).await;
        let name = |tenant: &str| HostName {
            tenant: tenant.to_owned(),
            host_id: host_id.to_owned(),
        };
        let known = known.map_err(failed)?.into_iter().map(|known| {
            let hostname = known.host.unwrap_or_default().hostname;
            (name(&known.tenant), hostname)
        });
        let known: Vec<_> = known.collect();
        Ok(match known.is_empty() {
            true => vec![(name(caller.tenant()), String::new())],
            false => known,
        })
    }
}

/// Whose object it is; or which field is wrong, and why.
fn check_finding(finding: &v1::Finding) -> Result<String, (&'static str, String)> {
    let v1::Finding {
        kind,
        object,
        detail,
    } = finding;
    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
    if kind.is_empty() || kind.len() > MAX_KIND_LEN || !kind.chars().all(is_word) {
        let must = format!("must have 1 to {MAX_KIND_LEN} lower-case letters and underscores");
        return Err(("kind", must));
    }
    for (field, text) in [("object", object), ("detail", detail)] {
        if text.len() > MAX_TEXT_LEN {
            return Err((field, format!("must have at most {MAX_TEXT_LEN} bytes")));
        }
    }
    let host = key::host_of(object).filter(|id| (1..=MAX_ID_LEN).contains(&id.len()));
    host.ok_or_else(|| {
        (
            "object",
            "must begin with v1/host= and a host id".to_owned(),
        )
    })
}

/// What stands on a page, and the token of the one behind it.
fn split<T>(scope: &[&str], page: Page<(HostPosition, T)>) -> (Vec<T>, String) {
    let last = page.items.last().filter(|_| page.more);
    let token = last.map_or_else(String::new, |(last, _)| {
        let HostPosition {
            tenant,
            host_id,
            log,
            number,
            sha256,
        } = last;
        let position = serde_json::to_vec(&(tenant, host_id, log, number, sha256));
        page_token::encode(scope, &position.unwrap_or_default())
    });
    let items = page.items.into_iter().map(|(_, item)| item);
    (items.collect(), token)
}

fn read_host_position(key: &[u8]) -> Option<HostPosition> {
    let (tenant, host_id, log, number, sha256) = serde_json::from_slice(key).ok()?;
    Some(HostPosition {
        tenant,
        host_id,
        log,
        number,
        sha256,
    })
}

/// `<session> <chunks> <head>`.
fn write_position(receipt: &v1::Receipt) -> String {
    let v1::Receipt {
        session_id,
        chunk_count,
        chain_head,
        ..
    } = receipt;
    format!("{session_id} {chunk_count} {chain_head}")
}

fn read_position(key: &[u8]) -> Option<ReceiptPosition> {
    let mut parts = std::str::from_utf8(key).ok()?.split(' ');
    Some(ReceiptPosition {
        session: parts.next()?.parse().ok()?,
        chunks: parts.next()?.parse().ok()?,
        chain_head: parts.next()?.to_owned(),
    })
}

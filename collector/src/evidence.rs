//! `EvidenceService`: what the collector vouches for.

use auditty_proto::{
    page_token,
    v1::{self, evidence_service_server::EvidenceService},
};
use tonic::{Request, Response, Status};

use crate::{
    access::{Asked, Principal},
    countersign::Countersigner,
    query::{failed, limit, position, session_id},
    store::{ReceiptPosition, Store},
};

/// Receipts on a page.
const DEFAULT_RECEIPTS: usize = 1000;

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
        let limit = limit(page_size, DEFAULT_RECEIPTS)?;
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

//! Who looked at what. [`AuditLog`] makes a record of a call durable before its
//! answer goes out; many at once share a commit. [`Audit`] lists them.

use auditty_proto::{
    filter::Filter,
    page_token,
    v1::{self, audit_service_server::AuditService},
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    access::{Asked, Principal},
    query::{failed, invalid_filter, limit, position},
    store::Store,
};

const DEFAULT_RECORDS: usize = 100;
/// Records that wait for a commit; callers wait for a place.
const QUEUE: usize = 1024;
/// Records of one commit.
const BATCH: usize = 256;

type Waiting = (v1::AuditRecord, oneshot::Sender<bool>);

/// Takes records of calls. Clones share one queue; its end is the end of the
/// last of them.
#[derive(Clone, Debug)]
pub struct AuditLog {
    queue: mpsc::Sender<Waiting>,
}

impl AuditLog {
    /// A log into this store, and the work of writing it.
    pub fn new(store: Store) -> (Self, impl Future<Output = ()>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue }, write(store, waiting))
    }

    /// Makes a record durable. Whoever asked gets no answer without it.
    pub async fn record(&self, record: v1::AuditRecord) -> Result<(), Status> {
        let failed = || Status::unavailable("the call cannot be recorded, so it is not answered");
        let (done, written) = oneshot::channel();
        let sent = self.queue.send((record, done)).await;
        sent.map_err(|_| failed())?;
        match written.await {
            Ok(true) => Ok(()),
            _ => Err(failed()),
        }
    }
}

async fn write(store: Store, mut waiting: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let (records, callers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let written = store.add_audit_records(&records).await;
        if let Err(error) = &written {
            tracing::error!("audit records are not stored, and their calls not answered: {error}");
        }
        for caller in callers {
            // A caller that hung up does not need to know.
            let _ = caller.send(written.is_ok());
        }
    }
}

/// `AuditService` over a store.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Store,
}

impl Audit {
    /// Answers from this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_audit_records(
        &self,
        request: Request<v1::ListAuditRecordsRequest>,
    ) -> Result<Response<v1::ListAuditRecordsResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let v1::ListAuditRecordsRequest {
            page_size,
            page_token,
            filter: filter_text,
        } = request.into_inner();
        let limit = limit(page_size, DEFAULT_RECORDS)?;
        let filter = Filter::audit_records(&filter_text).map_err(invalid_filter)?;
        let scope = ["ListAuditRecords", &filter_text];
        let after = position(&scope, &page_token, |key| Uuid::from_slice(key).ok())?;
        let after = after.map(|id| id.to_string());
        let page = self.store.audit_records(&allowed, &filter, after, limit);
        let page = page.await.map_err(failed)?;
        let last = page.items.last().filter(|_| page.more);
        let next_page_token = last.map_or_else(String::new, |last| {
            let id = Uuid::try_parse(&last.audit_id).unwrap_or_default();
            page_token::encode(&scope, id.as_bytes())
        });
        Ok(Response::new(v1::ListAuditRecordsResponse {
            records: page.items,
            next_page_token,
        }))
    }
}

//! `CoverageService`: what was recorded in a time range, and what was not.
//!
//! What no agent has seen is not known here; what is known is where none was
//! heard of, what agents have declared lost, and which approved accesses nobody
//! was seen to use. A time in which the collector itself was away counts as silence
//! of a host only when the host was not heard of afterwards either.

use auditty_grants::GrantRule;
use auditty_proto::{
    convert,
    v1::{self, coverage_service_server::CoverageService},
};
use auditty_recording::session;
use jiff::Timestamp;
use tonic::{Request, Response, Status};

use crate::{
    access::{Asked, Principal},
    query::failed,
    store::{Covered, HostCover, Range, Store, nanoseconds},
};

/// The service over a store.
#[derive(Clone, Debug)]
pub struct Coverage {
    store: Store,
}

impl Coverage {
    /// Answers from this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl CoverageService for Coverage {
    async fn get_coverage(
        &self,
        request: Request<v1::GetCoverageRequest>,
    ) -> Result<Response<v1::GetCoverageResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let range = range(request.get_ref(), Timestamp::now())?;
        let found = self.store.coverage(&allowed, range).await.map_err(failed)?;
        let Some(covered) = found else {
            return Err(Status::out_of_range(format!(
                "the range has more than {} sessions: ask for a shorter one",
                Covered::MAX_SESSIONS
            )));
        };
        let unused_grants = unused(&covered);
        let hosts = covered.hosts.into_values().map(|host| host.coverage);
        Ok(Response::new(v1::GetCoverageResponse {
            start_time: moment(range.start_ns),
            end_time: moment(range.end_ns),
            hosts: hosts.collect(),
            unused_grants,
        }))
    }
}

fn range(asked: &v1::GetCoverageRequest, now: Timestamp) -> Result<Range, Status> {
    let wrong =
        |field: &str, problem: &str| Status::invalid_argument(format!("{field}: {problem}"));
    let time = |field: &str, time: &Option<prost_types::Timestamp>| match time {
        None => Ok(None),
        Some(time) => nanoseconds(time)
            .map(Some)
            .ok_or_else(|| wrong(field, "must be a time from 1678 to 2261")),
    };
    let start = time("start_time", &asked.start_time)?;
    let start_ns = start.ok_or_else(|| wrong("start_time", "is missing"))?;
    let now = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
    let end_ns = time("end_time", &asked.end_time)?.map_or(now, |end| end.min(now));
    match start_ns < end_ns {
        true => Ok(Range { start_ns, end_ns }),
        false => Err(wrong("start_time", "must be before end_time and now")),
    }
}

/// Grants that no session used, with the hosts they are for and nobody watches.
fn unused(covered: &Covered) -> Vec<v1::UnusedGrant> {
    let unused = |(tenant, grant): &(String, v1::AccessGrant)| {
        let live = covered
            .hosts
            .values()
            .filter(|host| host.coverage.tenant == *tenant && !host.coverage.silent);
        let live: Vec<_> = live.map(recorded).collect();
        let rule = GrantRule::from_message(grant).ok();
        let approved = grant.grant.clone().unwrap_or_default();
        let named = grant.hosts.iter().filter(|name| !name.contains('*'));
        let unwatched = named.filter(|name| {
            let is = |host: &&session::Host| host.hostname == **name || host.host_id == **name;
            !live.iter().any(|host| is(&host))
        });
        v1::UnusedGrant {
            request_id: approved.request_id,
            requester: approved.requester,
            tenant: tenant.clone(),
            unwatched_hosts: unwatched.cloned().collect(),
            no_live_host: !rule.is_some_and(|rule| live.iter().any(|host| rule.is_for(host))),
        }
    };
    covered.unused_grants.iter().map(unused).collect()
}

/// A host as grants are compared with it.
fn recorded(host: &HostCover) -> session::Host {
    session::Host {
        host_id: host.coverage.host_id.clone(),
        hostname: host.coverage.hostname.clone(),
        labels: host.labels.clone(),
        ..session::Host::default()
    }
}

fn moment(nanoseconds: i64) -> Option<prost_types::Timestamp> {
    let time = Timestamp::from_nanosecond(nanoseconds.into()).ok();
    time.map(convert::timestamp)
}

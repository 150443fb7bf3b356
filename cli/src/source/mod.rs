//! Where the answers come from: a collector, or a store alone. Both give the
//! same messages of `auditty.v1`.

mod collector;
mod content;
mod grants;
mod search;
mod store;
mod watching;

use auditty_proto::{names, v1};

pub use content::{Content, locate, open as open_content, open_early, open_store};
pub use grants::Grants;
pub use store::store_failure;
pub use watching::Watching;

use crate::config::{Config, Place};
use crate::failure::{Failure, Result};
use crate::query;
pub use collector::Collector;
use store::Store;

/// Shortest beginning of an id that is looked up.
const MIN_PREFIX_CHARS: usize = 4;
/// How many candidates an ambiguous beginning names.
const MAX_CANDIDATES: i32 = 20;

/// Where the answers come from.
pub enum Source {
    /// A collector, over gRPC.
    Collector(Box<Collector>),
    /// A store alone.
    Store(Store),
}

impl Source {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// It cannot be reached, or its address is none.
    pub async fn open(config: &Config) -> Result<Self> {
        Ok(match &config.place {
            Place::Collector(address) => Self::Collector(Box::new(
                Collector::connect(address, &config.identity).await?,
            )),
            Place::Store(url) => Self::Store(Store::open(config, url.clone()).await?),
        })
    }

    /// A page of sessions, newest first.
    ///
    /// # Errors
    /// A wrong filter or page token, or the source failed.
    pub async fn list_sessions(
        &mut self,
        request: v1::ListSessionsRequest,
    ) -> Result<v1::ListSessionsResponse> {
        match self {
            Self::Collector(collector) => collector.list_sessions(request).await,
            Self::Store(store) => store.list_sessions(&request).await,
        }
    }

    /// One session, by its full id.
    ///
    /// # Errors
    /// There is none, or the source failed.
    pub async fn get_session(&mut self, id: &str) -> Result<v1::Session> {
        match self {
            Self::Collector(collector) => collector.get_session(id).await,
            Self::Store(store) => store.get_session(id).await,
        }
    }

    /// A page of a session's commands, in order, or of those of all sessions, newest
    /// first.
    ///
    /// # Errors
    /// A wrong filter or page token, no such session, or the source failed.
    pub async fn list_commands(
        &mut self,
        request: v1::ListCommandsRequest,
    ) -> Result<v1::ListCommandsResponse> {
        match self {
            Self::Collector(collector) => collector.list_commands(request).await,
            Self::Store(store) => store.list_commands(&request).await,
        }
    }

    /// A page of what else a session did, in order.
    ///
    /// # Errors
    /// A wrong filter or page token, no such session, or the source failed.
    pub async fn list_activities(
        &mut self,
        request: v1::ListActivitiesRequest,
    ) -> Result<v1::ListActivitiesResponse> {
        match self {
            Self::Collector(collector) => collector.list_activities(request).await,
            Self::Store(store) => store.list_activities(&request).await,
        }
    }

    /// A page of audit records, newest first.
    ///
    /// # Errors
    /// A wrong filter or page token, a store without a collector, which has
    /// none, or the source failed.
    pub async fn list_audit_records(
        &mut self,
        request: v1::ListAuditRecordsRequest,
    ) -> Result<v1::ListAuditRecordsResponse> {
        match self {
            Self::Collector(collector) => collector.list_audit_records(request).await,
            Self::Store(_) => Err(only_collector("audit records")),
        }
    }

    /// The session that somebody typed: a full id, `sessions/ID`, or the
    /// beginning of an id that only one session has.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub async fn find_session(&mut self, typed: &str) -> Result<v1::Session> {
        let id = typed
            .strip_prefix("sessions/")
            .unwrap_or(typed)
            .to_ascii_lowercase();
        if names::parse_session_id(&id).is_some() {
            return self.get_session(&id).await;
        }
        check_prefix(typed, &id)?;
        let request = v1::ListSessionsRequest {
            page_size: MAX_CANDIDATES,
            page_token: String::new(),
            filter: query::id_prefix(&id),
            ..Default::default()
        };
        let found = self.list_sessions(request).await?;
        let mut sessions = found.sessions;
        if sessions.len() > 1 {
            return Err(ambiguous(&id, &sessions, !found.next_page_token.is_empty()));
        }
        sessions.pop().ok_or_else(|| {
            Failure::not_found(format!("no session's id begins with `{id}`"))
                .hint("`auditty sessions --all` lists all sessions")
        })
    }

    /// What was found wrong while answering, one line each.
    pub fn take_problems(&mut self) -> Vec<String> {
        match self {
            Self::Collector(_) => Vec::new(),
            Self::Store(store) => store.take_problems(),
        }
    }
}

fn only_collector(what: &str) -> Failure {
    Failure::usage(format!("{what} are with a collector, not in a store"))
        .hint("leave --store and AUDITTY_STORE out")
}

fn check_prefix(typed: &str, id: &str) -> Result<()> {
    let hexadecimal = id.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if hexadecimal && (MIN_PREFIX_CHARS..=36).contains(&id.len()) {
        return Ok(());
    }
    Err(
        Failure::usage(format!("`{typed}` is not a session")).hint(format!(
            "give a full id, sessions/ID, or at least {MIN_PREFIX_CHARS} characters of an id"
        )),
    )
}

fn ambiguous(prefix: &str, sessions: &[v1::Session], more: bool) -> Failure {
    let mut candidates: Vec<String> = sessions.iter().map(candidate).collect();
    if more {
        candidates.push("…".to_owned());
    }
    Failure::usage(format!(
        "`{prefix}` begins the id of more than one session: {}",
        candidates.join(", ")
    ))
    .hint("give more characters of the id")
}

fn candidate(session: &v1::Session) -> String {
    let user = session.login.as_ref().map_or("", |login| &login.user);
    let host = session.host.as_ref().map_or("", |host| &host.hostname);
    format!("{} ({user}@{host})", session.session_id)
}

#[cfg(test)]
mod tests {
    use super::check_prefix;

    #[test]
    fn only_beginnings_of_ids_are_looked_up() {
        assert!(check_prefix("0199", "0199").is_ok());
        for wrong in ["019", "alice", "", "0199\" OR", "0199*"] {
            assert!(check_prefix(wrong, wrong).is_err(), "{wrong}");
        }
    }
}

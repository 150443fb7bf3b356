//! `SessionService`: reads requests, asks the store, gives pages.

use std::pin::Pin;

use auditty_proto::{
    filter::{CommandSearch, Filter, FilterError},
    names, page_token,
    v1::{self, session_service_server::SessionService},
};
use futures::{Stream, stream};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    access::{Asked, Principal},
    following::{Following, Watcher},
    store::{
        CommandPosition, GoingOn, Page, Scope, SessionPosition, Store, StoreError, nanoseconds,
    },
    tailing::Tail,
};

const DEFAULT_SESSIONS: usize = 50;
const DEFAULT_COMMANDS: usize = 100;
const DEFAULT_ACTIVITIES: usize = 100;
/// Most items on any page.
const MAX_ITEMS: usize = 1000;

/// The service over a store.
#[derive(Clone, Debug)]
pub struct Query {
    store: Store,
    following: Following,
}

impl Query {
    /// Answers from this store; who follows is told as `following` says.
    pub(crate) fn new(store: Store, following: Following) -> Self {
        Self { store, following }
    }
}

#[tonic::async_trait]
impl SessionService for Query {
    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let v1::ListSessionsRequest {
            page_size,
            page_token,
            filter: filter_text,
            going_on_from_time,
            going_on_until_time,
        } = request.into_inner();
        let limit = limit(page_size, DEFAULT_SESSIONS)?;
        let filter = Filter::sessions(&filter_text).map_err(invalid_filter)?;
        let going_on = GoingOn {
            from_ns: time("going_on_from_time", going_on_from_time)?,
            until_ns: time("going_on_until_time", going_on_until_time)?,
        };
        let scope = ["ListSessions", &filter_text, &format!("{going_on:?}")];
        let after = position(&scope, &page_token, session_position)?;
        let page = self
            .store
            .sessions(&allowed, &filter, going_on, after, limit);
        let page = page.await;
        let page = page.map_err(failed)?;
        let last = page.items.last().filter(|_| page.more);
        let next_page_token = last.map_or_else(String::new, |last| {
            page_token::encode(&scope, &session_key(last))
        });
        Ok(Response::new(v1::ListSessionsResponse {
            sessions: page.items,
            next_page_token,
        }))
    }

    async fn get_session(
        &self,
        request: Request<v1::GetSessionRequest>,
    ) -> Result<Response<v1::GetSessionResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let id = session_id("name", &request.get_ref().name)?;
        let session = find(&self.store, &allowed, id).await?;
        Ok(Response::new(v1::GetSessionResponse {
            session: Some(session),
        }))
    }

    type WatchSessionsStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchSessionsResponse, Status>> + Send>>;

    async fn watch_sessions(
        &self,
        request: Request<v1::WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        Asked::note(&request);
        let scope = Principal::of(&request)?.scope();
        let asked = request.get_ref();
        let filter = Filter::sessions(&asked.filter).map_err(invalid_filter)?;
        let store = self.store.clone();
        let watcher = Watcher::new(&self.following, store, scope, filter, asked).await?;
        let answers = stream::try_unfold(watcher, Watcher::next);
        Ok(Response::new(Box::pin(answers)))
    }

    type TailSessionStream =
        Pin<Box<dyn Stream<Item = Result<v1::TailSessionResponse, Status>> + Send>>;

    async fn tail_session(
        &self,
        request: Request<v1::TailSessionRequest>,
    ) -> Result<Response<Self::TailSessionStream>, Status> {
        Asked::note(&request);
        let scope = Principal::of(&request)?.scope();
        let asked = request.get_ref();
        let id = session_id("name", &asked.name)?;
        let tail = Tail::new(&self.following, self.store.clone(), scope, id, asked).await?;
        let answers = stream::try_unfold(tail, Tail::next);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn list_commands(
        &self,
        request: Request<v1::ListCommandsRequest>,
    ) -> Result<Response<v1::ListCommandsResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        if request.get_ref().parent == names::ALL_SESSIONS {
            let answer = self.search(&allowed, request.into_inner()).await?;
            return Ok(Response::new(answer));
        }
        let v1::ListCommandsRequest {
            parent,
            page_size,
            page_token,
            filter: filter_text,
        } = request.into_inner();
        let id = session_id("parent", &parent)?;
        let limit = limit(page_size, DEFAULT_COMMANDS)?;
        let filter = Filter::commands(&filter_text).map_err(invalid_filter)?;
        let scope = ["ListCommands", &parent, &filter_text];
        let after = position(&scope, &page_token, seq_position)?.unwrap_or(0);
        find(&self.store, &allowed, id).await?;
        let page = self.store.commands(id, &filter, after, limit).await;
        let page = page.map_err(failed)?;
        let next_page_token = token_after(&scope, &page, |command| command.seq);
        Ok(Response::new(v1::ListCommandsResponse {
            commands: page.items,
            next_page_token,
            withheld_command_count: 0,
        }))
    }

    async fn list_activities(
        &self,
        request: Request<v1::ListActivitiesRequest>,
    ) -> Result<Response<v1::ListActivitiesResponse>, Status> {
        Asked::note(&request);
        let allowed = Principal::of(&request)?.scope();
        let v1::ListActivitiesRequest {
            parent,
            page_size,
            page_token,
            filter: filter_text,
        } = request.into_inner();
        let id = session_id("parent", &parent)?;
        let limit = limit(page_size, DEFAULT_ACTIVITIES)?;
        let filter = Filter::activities(&filter_text).map_err(invalid_filter)?;
        let scope = ["ListActivities", &parent, &filter_text];
        let after = position(&scope, &page_token, seq_position)?.unwrap_or(0);
        find(&self.store, &allowed, id).await?;
        let page = self.store.activities(id, &filter, after, limit).await;
        let page = page.map_err(failed)?;
        let next_page_token = token_after(&scope, &page, |activity| activity.seq);
        Ok(Response::new(v1::ListActivitiesResponse {
            activities: page.items,
            next_page_token,
        }))
    }
}

impl Query {
    /// Commands of all sessions.
    async fn search(
        &self,
        allowed: &Scope,
        request: v1::ListCommandsRequest,
    ) -> Result<v1::ListCommandsResponse, Status> {
        let limit = limit(request.page_size, DEFAULT_COMMANDS)?;
        let search = CommandSearch::parse(&request.filter).map_err(invalid_filter)?;
        let scope = ["ListCommands", &request.parent, &request.filter];
        let after = position(&scope, &request.page_token, command_position)?;
        let first = after.is_none();
        let found = self.store.search_commands(allowed, &search, after, limit);
        let found = found.await.map_err(failed)?;
        let withheld = match first && search.asks_for_content() {
            true => {
                let rest = search.without_content();
                let count = self.store.count_withheld(allowed, &rest);
                count.await.map_err(failed)?
            }
            false => 0,
        };
        let next = found.next.as_ref();
        Ok(v1::ListCommandsResponse {
            commands: found.commands,
            next_page_token: next.map_or_else(String::new, |next| {
                page_token::encode(&scope, &command_key(next))
            }),
            withheld_command_count: i32::try_from(withheld).unwrap_or(i32::MAX),
        })
    }
}

/// One session that the caller may see.
pub(crate) async fn find(store: &Store, allowed: &Scope, id: Uuid) -> Result<v1::Session, Status> {
    let session = store.session(allowed, id).await.map_err(failed)?;
    session.ok_or_else(|| Status::not_found(format!("there is no session {id}")))
}

fn time(field: &str, time: Option<Timestamp>) -> Result<Option<i64>, Status> {
    let Some(time) = time else { return Ok(None) };
    match nanoseconds(&time) {
        Some(ns) => Ok(Some(ns)),
        None => Err(Status::invalid_argument(format!(
            "{field}: must be a time from 1678 to 2261"
        ))),
    }
}

pub(crate) fn limit(page_size: i32, default: usize) -> Result<usize, Status> {
    match usize::try_from(page_size) {
        Ok(0) => Ok(default),
        Ok(size) => Ok(size.min(MAX_ITEMS)),
        Err(_) => Err(Status::invalid_argument("page_size: must not be negative")),
    }
}

pub(crate) fn session_id(field: &str, name: &str) -> Result<Uuid, Status> {
    names::parse_session_name(name).ok_or_else(|| {
        Status::invalid_argument(format!(
            "{field}: must be sessions/ and a UUID in lower case with hyphens"
        ))
    })
}

pub(crate) fn invalid_filter(error: FilterError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// What went wrong inside is for the log, not for the caller.
pub(crate) fn failed(error: StoreError) -> Status {
    tracing::error!("query failed: {error}");
    match error {
        StoreError::Damaged(_) => Status::data_loss("a stored message is damaged; see the log"),
        _ if error.is_timeout() => {
            Status::deadline_exceeded("the database takes too long for this; ask for less")
        }
        _ => Status::unavailable("the database did not answer; see the log"),
    }
}

pub(crate) fn position<T>(
    scope: &[&str],
    token: &str,
    read: fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    page_token::decode(scope, token)
        .and_then(|key| read(&key).ok_or(page_token::PageTokenError::Malformed))
        .map(Some)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Start in nanoseconds (8 bytes, big endian), then the id (16 bytes).
fn session_key(session: &v1::Session) -> Vec<u8> {
    let start = session.start_time.as_ref().and_then(nanoseconds);
    let id = names::parse_session_id(&session.session_id).unwrap_or_default();
    let mut key = start.unwrap_or_default().to_be_bytes().to_vec();
    key.extend_from_slice(id.as_bytes());
    key
}

fn session_position(key: &[u8]) -> Option<SessionPosition> {
    let (start, id) = key.split_first_chunk::<8>()?;
    Some(SessionPosition {
        start_ns: i64::from_be_bytes(*start),
        id: Uuid::from_slice(id).ok()?,
    })
}

/// Place and number (8 bytes each, big endian), then the session.
fn command_key(position: &CommandPosition) -> Vec<u8> {
    let mut key = position.place.to_be_bytes().to_vec();
    key.extend_from_slice(&position.seq.to_be_bytes());
    key.extend_from_slice(position.session.as_bytes());
    key
}

fn command_position(key: &[u8]) -> Option<CommandPosition> {
    let (place, rest) = key.split_first_chunk::<8>()?;
    let (seq, session) = rest.split_first_chunk::<8>()?;
    Some(CommandPosition {
        place: i64::from_be_bytes(*place),
        seq: i64::from_be_bytes(*seq),
        session: String::from_utf8(session.to_vec()).ok()?,
    })
}

/// The token of the page behind this one, whose items are in the order of their
/// sequence numbers; empty when there is none.
fn token_after<T>(scope: &[&str], page: &Page<T>, seq: impl Fn(&T) -> u64) -> String {
    let last = page.items.last().filter(|_| page.more);
    last.map_or_else(String::new, |last| {
        page_token::encode(scope, &seq(last).to_be_bytes())
    })
}

fn seq_position(key: &[u8]) -> Option<i64> {
    i64::try_from(u64::from_be_bytes(key.try_into().ok()?)).ok()
}

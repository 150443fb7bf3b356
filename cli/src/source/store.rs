//! A store alone: the answers of a collector, from the manifests in a bucket or
//! folder.

use auditty_proto::filter::{Filter, Operator, Value};
use auditty_proto::{names, page_token, v1};
use auditty_recording::encryption::Identities;
use auditty_recording::key::{ROOT, SessionKey};
use auditty_recording::store::{AnyStore, StoreError, StoreUrl};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{Timestamp, tz::TimeZone};
use uuid::Uuid;

use super::content::{self, Content};
use crate::config::Config;
use crate::failure::{Failure, Result};
use crate::moment;

/// Requests to the store that are under way at once.
const PARALLEL: usize = 16;
/// Sizes of pages, as in the schema.
const DEFAULT_SESSIONS: usize = 50;
pub(super) const DEFAULT_COMMANDS: usize = 100;
const DEFAULT_ACTIVITIES: usize = 100;
const MAX_PAGE: usize = 1000;

/// A store.
pub struct Store {
    pub(super) store: AnyStore,
    pub(super) keys: Identities,
    pub(super) problems: Vec<String>,
}

impl Store {
    pub(super) async fn open(config: &Config, url: StoreUrl) -> Result<Self> {
        Ok(Self {
            store: content::open_store(config, url).await?,
            keys: config.keys.clone(),
            problems: Vec::new(),
        })
    }

    pub(super) async fn list_sessions(
        &mut self,
        request: &v1::ListSessionsRequest,
    ) -> Result<v1::ListSessionsResponse> {
        let filter = Filter::sessions(&request.filter).map_err(Failure::usage)?;
        let going_on = GoingOn::new(request);
        let times = format!("{going_on:?}");
        let fields = ["ListSessions", request.filter.as_str(), &times];
        let before = match request.page_token.as_str() {
            "" => None,
            token => Some(position(&fields, token, Uuid::from_slice)?),
        };
        let size = page_size(request.page_size, DEFAULT_SESSIONS);
        let mut keys = self.keys(&filter).await?;
        keys.retain(|key| before.is_none_or(|before| key.session_id() < before));

        let mut answer = v1::ListSessionsResponse::default();
        let (store, reading) = (&self.store, &self.keys);
        let mut summaries = stream::iter(keys)
            .map(|key| async move {
                (
                    key.session_id(),
                    content::summary(store, key, reading).await,
                )
            })
            .buffered(PARALLEL);
        let mut last = None;
        while let Some((id, summary)) = summaries.next().await {
            let session = match summary {
                Ok((session, problems)) => {
                    self.problems.extend(problems);
                    session
                }
                // One session that may not be read does not hide the others.
                Err(error) if !answer.sessions.is_empty() => {
                    self.problems.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(store_failure(&error)),
            };
            if !filter.matches(&session) || !going_on.includes(&session) {
                continue;
            }
            if answer.sessions.len() == size {
                answer.next_page_token = last
                    .map(|last: Uuid| page_token::encode(&fields, last.as_bytes()))
                    .unwrap_or_default();
                break;
            }
            answer.sessions.push(session);
            last = Some(id);
        }
        Ok(answer)
    }

    pub(super) async fn get_session(&mut self, id: &str) -> Result<v1::Session> {
        let key = self.key(id).await?;
        let summary = content::summary(&self.store, key, &self.keys).await;
        let (session, problems) = summary.map_err(|error| store_failure(&error))?;
        self.problems.extend(problems);
        Ok(session)
    }

    pub(super) async fn list_commands(
        &mut self,
        request: &v1::ListCommandsRequest,
    ) -> Result<v1::ListCommandsResponse> {
        if request.parent == names::ALL_SESSIONS {
            return self.search(request).await;
        }
        let filter = Filter::commands(&request.filter).map_err(Failure::usage)?;
        let fields = ["ListCommands", &request.parent, &request.filter];
        let size = page_size(request.page_size, DEFAULT_COMMANDS);
        let after = seq_position(&fields, &request.page_token)?;
        let mut content = self.content(&request.parent).await?;
        let mut items = content.commands().await?;
        self.problems.extend(content.take_problems());
        items.retain(|command| command.seq > after && filter.matches(command));
        let (commands, next_page_token) = page(items, size, &fields, |command| command.seq);
        Ok(v1::ListCommandsResponse {
            commands,
            next_page_token,
            ..Default::default()
        })
    }

    pub(super) async fn list_activities(
        &mut self,
        request: &v1::ListActivitiesRequest,
    ) -> Result<v1::ListActivitiesResponse> {
        let filter = Filter::activities(&request.filter).map_err(Failure::usage)?;
        let fields = ["ListActivities", &request.parent, &request.filter];
        let size = page_size(request.page_size, DEFAULT_ACTIVITIES);
        let after = seq_position(&fields, &request.page_token)?;
        let mut content = self.content(&request.parent).await?;
        let mut items = content.activities().await?;
        self.problems.extend(content.take_problems());
        items.retain(|activity| activity.seq > after && filter.matches(activity));
        let (activities, next_page_token) = page(items, size, &fields, |activity| activity.seq);
        Ok(v1::ListActivitiesResponse {
            activities,
            next_page_token,
        })
    }

    /// The content of the session with this name.
    async fn content(&self, name: &str) -> Result<Content> {
        let id = names::parse_session_name(name)
            .ok_or_else(|| Failure::usage(format!("`{name}` is no session")))?;
        let key = self.key(&id.to_string()).await?;
        let content = Content::open(self.store.clone(), key, self.keys.clone()).await;
        content.map_err(|error| store_failure(&error))
    }

    pub(super) fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    /// The folder of a session.
    async fn key(&self, id: &str) -> Result<SessionKey> {
        content::find(&self.store, id).await
    }

    /// Folders of sessions that may match, newest first. Dates and ids that
    /// the filter rules out are not even listed or read.
    pub(super) async fn keys(&self, filter: &Filter<v1::Session>) -> Result<Vec<SessionKey>> {
        let wanted = |key: &SessionKey| may_match(filter, key);
        let mut keys = folders(&self.store, wanted).await?;
        keys.sort_by_key(|key| std::cmp::Reverse(key.session_id()));
        Ok(keys)
    }
}

/// Folders of sessions that are wanted, in no order.
pub(super) async fn folders(
    store: &AnyStore,
    wanted: impl Fn(&SessionKey) -> bool,
) -> Result<Vec<SessionKey>> {
    let below = |folder: String| async move { store.folders(&folder).await };
    let hosts = below(ROOT.to_owned())
        .await
        .map_err(|error| store_failure(&error))?;
    let dates = flatten(hosts, below).await?;
    let sessions = flatten(dates, below).await?;
    let keys = sessions.iter().filter_map(|folder| folder.parse().ok());
    Ok(keys.filter(wanted).collect())
}

async fn flatten<F>(folders: Vec<String>, below: impl Fn(String) -> F) -> Result<Vec<String>>
where
    F: Future<Output = std::result::Result<Vec<String>, StoreError>>,
{
    let lists: Vec<Vec<String>> = stream::iter(folders)
        .map(below)
        .buffered(PARALLEL)
        .try_collect()
        .await
        .map_err(|error| store_failure(&error))?;
    Ok(lists.concat())
}

/// A store's error with what to do about it.
pub fn store_failure(error: &StoreError) -> Failure {
    let failure = Failure::error(error);
    if error.is_permanent_config() {
        return failure.hint(
            "you need GetObject and ListBucket rights there; see --s3-endpoint-url, --s3-region, \
             --s3-path-style and the AWS_* variables",
        );
    }
    if error.is_not_found() {
        return Failure::not_found(error)
            .hint("is this the right place? --store names the folder or prefix above `v1/`");
    }
    failure
}

/// Whether the folder's name alone leaves a match possible.
pub(super) fn may_match(filter: &Filter<v1::Session>, key: &SessionKey) -> bool {
    let named = v1::Session {
        session_id: key.session_id().to_string(),
        host: Some(v1::Host {
            host_id: key.host_id().to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    filter
        .comparisons
        .iter()
        .all(|comparison| match comparison.field.name {
            "session_id" | "host_id" => comparison.matches(&named),
            "start_time" => date_may_match(comparison.operator, &comparison.value, key),
            _ => true,
        })
}

/// Whether a session of this folder's date may have begun then.
pub(super) fn date_may_match(operator: Operator, value: &Value<'_>, key: &SessionKey) -> bool {
    let Value::Time(time) = value else {
        return true;
    };
    let date = time.to_zoned(TimeZone::UTC).date();
    match operator {
        Operator::Less | Operator::LessOrEqual => key.date() <= date,
        Operator::Greater | Operator::GreaterOrEqual => key.date() >= date,
        Operator::Equal => key.date() == date,
        Operator::NotEqual | Operator::Contains => true,
    }
}

/// When a session was going on.
#[derive(Debug)]
struct GoingOn {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl GoingOn {
    fn new(request: &v1::ListSessionsRequest) -> Self {
        Self {
            from: moment::from_proto(request.going_on_from_time.as_ref()),
            until: moment::from_proto(request.going_on_until_time.as_ref()),
        }
    }

    fn includes(&self, session: &v1::Session) -> bool {
        let start = moment::from_proto(session.start_time.as_ref());
        let end = moment::from_proto(session.end_time.as_ref());
        let began = |until| start.is_some_and(|start| start < until);
        let lasted = |from| end.is_none_or(|end| end >= from);
        self.until.is_none_or(began) && self.from.is_none_or(lasted)
    }
}

pub(super) fn page_size(asked: i32, default: usize) -> usize {
    match usize::try_from(asked) {
        Ok(0) | Err(_) => default,
        Ok(size) => size.min(MAX_PAGE),
    }
}

/// The first of the items, and the token of the next page where there are more.
fn page<T>(
    mut items: Vec<T>,
    size: usize,
    fields: &[&str],
    seq: impl Fn(&T) -> u64,
) -> (Vec<T>, String) {
    if items.len() <= size {
        return (items, String::new());
    }
    items.truncate(size);
    let last = items.last().map_or(0, seq);
    (items, page_token::encode(fields, &last.to_be_bytes()))
}

/// The number behind which a page begins.
fn seq_position(fields: &[&str], token: &str) -> Result<u64> {
    match token {
        "" => Ok(0),
        token => position(fields, token, |bytes| {
            bytes.try_into().map(u64::from_be_bytes)
        }),
    }
}

pub(super) fn position<T, E>(
    fields: &[&str],
    token: &str,
    read: impl Fn(&[u8]) -> std::result::Result<T, E>,
) -> Result<T> {
    let bytes = page_token::decode(fields, token).map_err(Failure::usage)?;
    read(&bytes).map_err(|_| Failure::usage(page_token::PageTokenError::Malformed))
}

#[cfg(test)]
mod tests {
    use auditty_proto::filter::Filter;
    use auditty_recording::key::SessionKey;

    #[test]
    fn folders_that_cannot_match_are_left_out() {
        let key: SessionKey =
            "v1/host=h1/date=2026-01-31/session=0199e0a4-7b1c-7000-8000-000000000001/"
                .parse()
                .unwrap();
        let may_match = |text: &str| super::may_match(&Filter::sessions(text).unwrap(), &key);
        for text in [
            "",
            "user = alice",
            "start_time >= \"2026-01-31T23:00:00Z\"",
            "start_time < \"2026-01-31T01:00:00Z\" AND host_id = h1",
            "session_id : 0199e0a4",
        ] {
            assert!(may_match(text), "{text}");
        }
        for text in [
            "start_time >= 2026-02-01",
            "start_time < \"2026-01-30T01:00:00Z\"",
            "host_id = h2",
            "session_id > 0199f",
        ] {
            assert!(!may_match(text), "{text}");
        }
    }
}

//! Finding recordings in a store, without any collector.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::civil::Date;
use uuid::Uuid;

use super::{Recording, State};
use crate::key::{ROOT, SessionKey, host_folder};
use crate::session::Session;
use crate::store::{AnyStore, StoreError};

/// Requests to the store at the same time.
const CONCURRENT: usize = 16;

/// Which recordings to list; everything by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this host.
    pub host_id: Option<String>,
    /// Earliest UTC date of the session's start.
    pub from: Option<Date>,
    /// Latest UTC date of the session's start.
    pub to: Option<Date>,
}

/// A recording as a listing shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedRecording {
    /// Its folder.
    pub key: SessionKey,
    /// Where it is, for people.
    pub uri: String,
    /// How far it has got.
    pub state: State,
    /// The session.
    pub session: Session,
    /// Chunks in the store.
    pub chunk_count: usize,
    /// Bytes of all chunks as stored.
    pub stored_bytes: u64,
    /// Problems seen without reading chunks of finished recordings, in words.
    pub problems: Vec<String>,
}

/// Lists recordings, newest start first. Costs one small listing per host, day
/// and session and one manifest per finished session; sessions that are still
/// open are read.
pub async fn list_recordings(
    store: &AnyStore,
    filter: &Filter,
) -> Result<Vec<ListedRecording>, StoreError> {
    let keys = session_keys(store, filter).await?;
    let mut found: Vec<_> = stream::iter(keys)
        .map(|key| summarise(store, key))
        .buffer_unordered(CONCURRENT)
        .try_collect()
        .await?;
    found.sort_by_key(|recording| {
        let session = &recording.session;
        std::cmp::Reverse((session.start_time, session.session_id))
    });
    Ok(found)
}

/// The folder of a session, wherever it is in the store.
pub async fn find_session(
    store: &AnyStore,
    session_id: Uuid,
) -> Result<Option<SessionKey>, StoreError> {
    // The id carries the start time, so the date is known, unless the id was
    // made later than the session began (an adopted one).
    if let Some(date) = date_of(session_id) {
        let day = Filter {
            from: date.yesterday().ok(),
            to: date.tomorrow().ok(),
            ..Filter::default()
        };
        if let Some(key) = find(session_keys(store, &day).await?, session_id) {
            return Ok(Some(key));
        }
    }
    let all = session_keys(store, &Filter::default()).await?;
    Ok(find(all, session_id))
}

fn find(keys: Vec<SessionKey>, session_id: Uuid) -> Option<SessionKey> {
    keys.into_iter().find(|key| key.session_id() == session_id)
}

fn date_of(session_id: Uuid) -> Option<Date> {
    let (seconds, _) = session_id.get_timestamp()?.to_unix();
    let start = jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(start.to_zoned(jiff::tz::TimeZone::UTC).date())
}

async fn summarise(store: &AnyStore, key: SessionKey) -> Result<ListedRecording, StoreError> {
    let recording = Recording::open(store.clone(), key).await?;
    Ok(ListedRecording {
        uri: recording.uri(),
        state: recording.state(),
        session: recording.session().clone(),
        chunk_count: recording.chunk_count(),
        stored_bytes: recording.stored_bytes(),
        problems: recording.issues().iter().map(ToString::to_string).collect(),
        key: recording.key,
    })
}

/// The folders of recordings.
pub async fn session_keys(
    store: &AnyStore,
    filter: &Filter,
) -> Result<Vec<SessionKey>, StoreError> {
    let hosts = match &filter.host_id {
        Some(host_id) => vec![host_folder(host_id)],
        None => store.folders(ROOT).await?,
    };
    let dates: Vec<String> = folders_of(store, hosts).await?;
    let dates = dates
        .into_iter()
        .filter(|folder| filter.has(folder))
        .collect();
    let sessions = folders_of(store, dates).await?;
    Ok(sessions
        .iter()
        .filter_map(|folder| folder.parse().ok())
        .collect())
}

async fn folders_of(store: &AnyStore, parents: Vec<String>) -> Result<Vec<String>, StoreError> {
    let found: Vec<Vec<String>> = stream::iter(parents)
        .map(|parent| async move { store.folders(&parent).await })
        .buffered(CONCURRENT)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

impl Filter {
    /// Whether a folder `…/date=YYYY-MM-DD/` is in range.
    fn has(&self, folder: &str) -> bool {
        let name = folder.trim_end_matches('/').rsplit('/').next();
        let date = name.and_then(|name| name.strip_prefix("date=")?.parse::<Date>().ok());
        date.is_some_and(|date| {
            self.from.is_none_or(|from| from <= date) && self.to.is_none_or(|to| date <= to)
        })
    }
}

//! The content of a recording: its events, read from the store with the
//! viewer's own rights, and every problem found on the way.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use auditty_proto::{convert, names, v1};
use auditty_recording::chunk::Record;
use auditty_recording::encryption::{EncryptedTo, Identities};
use auditty_recording::event::Body;
use auditty_recording::key::{ROOT, SessionKey};
use auditty_recording::reader::{Issue, Item, Position, Recording, Records, find_session};
use auditty_recording::session::Session;
use auditty_recording::store::{AnyStore, StoreError, StoreUrl};

use super::store::store_failure;
use crate::config::{Config, Place};
use crate::describe;
use crate::failure::{Failure, Result};
use crate::moment::Zone;
use crate::out;
use crate::replay::timeline;

/// Most problems that are kept in words; their number is always right.
const MAX_PROBLEMS: usize = 1000;

/// A recording that was found and can be read.
pub struct Content {
    recording: Recording,
    problems: Vec<String>,
}

/// Opens the content of a session: in the store that is asked, or where the
/// collector says it is.
///
/// # Errors
/// It is not there, or may not be read.
pub async fn open(session: &v1::Session, config: &Config) -> Result<Content> {
    let content = open_early(session, config).await?;
    match &config.place {
        Place::Store(_) => Ok(content),
        Place::Collector(_) => content.or_not_found(recording_uri(session)),
    }
}

/// The same of a session that goes on: the store may have nothing of it yet.
///
/// # Errors
/// There is no such place, or it may not be read.
pub async fn open_early(session: &v1::Session, config: &Config) -> Result<Content> {
    let (store, key) = locate(session, config).await?;
    let keys = config.keys.clone();
    let content = Content::open(store, key, keys).await;
    content.map_err(|error| {
        let failure = store_failure(&error);
        match &config.place {
            Place::Store(_) => failure,
            Place::Collector(_) => failure.hint(
                "the content is read from there with your own rights; --store names a copy \
                 that you can read, --s3-endpoint-url, --s3-region and --s3-path-style say \
                 how to reach it",
            ),
        }
    })
}

fn recording_uri(session: &v1::Session) -> &str {
    let recording = session.recording.as_ref();
    recording.map_or("", |recording| &recording.uri)
}

/// Where the content of a session is: in the store that is asked, or where the
/// collector says.
///
/// # Errors
/// It is not there, or the collector names no place.
pub async fn locate(session: &v1::Session, config: &Config) -> Result<(AnyStore, SessionKey)> {
    match &config.place {
        Place::Store(url) => {
            let store = open_store(config, url.clone()).await?;
            let key = find(&store, &session.session_id).await?;
            Ok((store, key))
        }
        Place::Collector(_) => {
            let (url, key) = located(recording_uri(session))?;
            Ok((open_store(config, url).await?, key))
        }
    }
}

/// The store and folder that a recording's URI names.
fn located(uri: &str) -> Result<(StoreUrl, SessionKey)> {
    let unknown = || {
        Failure::error(format!("the collector names no readable place: `{uri}`"))
            .hint("--store reads a bucket or folder directly")
    };
    let split = |path: &str| {
        let at = path.rfind(&format!("{ROOT}host="))?;
        let (store, folder) = path.split_at_checked(at)?;
        let folder = format!("{}/", folder.trim_end_matches('/'));
        Some((store.trim_end_matches('/').to_owned(), folder.parse().ok()?))
    };
    let parsed = match uri.parse().map_err(|_| unknown())? {
        StoreUrl::Local(path) => split(&path.to_string_lossy())
            .filter(|_| uri.starts_with("file://"))
            .map(|(root, key)| (StoreUrl::Local(format!("{root}/").into()), key)),
        StoreUrl::S3 { bucket, prefix } => {
            split(&prefix).map(|(prefix, key)| (StoreUrl::S3 { bucket, prefix }, key))
        }
    };
    parsed.ok_or_else(unknown)
}

/// Opens a store. A folder that does not exist would look like an empty one.
pub async fn open_store(config: &Config, url: StoreUrl) -> Result<AnyStore> {
    if let StoreUrl::Local(path) = &url
        && !path.is_dir()
    {
        let path = path.display();
        return Err(
            Failure::not_found(format!("there is no folder {path} on this machine"))
                .hint("--store names the bucket or folder that has the recordings"),
        );
    }
    let opened = config.store(url).open().await;
    opened.map_err(|error| store_failure(&error))
}

/// The folder of a session, by its full id.
pub(super) async fn find(store: &AnyStore, id: &str) -> Result<SessionKey> {
    let missing = || {
        Failure::not_found(format!("there is no session {id} in {}", store.uri("")))
            .hint("`auditty sessions --all` lists all sessions")
    };
    let id = names::parse_session_id(id).ok_or_else(missing)?;
    let found = find_session(store, id).await;
    found
        .map_err(|error| store_failure(&error))?
        .ok_or_else(missing)
}

/// A session's metadata with the problems seen while reading it.
pub(super) async fn summary(
    store: &AnyStore,
    key: SessionKey,
    keys: &Identities,
) -> std::result::Result<(v1::Session, Vec<String>), StoreError> {
    let mut content = Content::open(store.clone(), key, keys.clone()).await?;
    if content.recording.is_locked() {
        let uri = content.recording.uri();
        out::warn(&format!(
            "{uri} goes on and is encrypted: who it is and what was done so far takes --identity"
        ));
    }
    Ok((content.message(), content.take_problems()))
}

impl Content {
    pub(super) async fn open(
        store: AnyStore,
        key: SessionKey,
        keys: Identities,
    ) -> std::result::Result<Self, StoreError> {
        let recording = Recording::open_with(store, key, keys).await?;
        // To have no key is no problem of the recording.
        let issues = recording.issues().iter();
        let issues = issues.filter(|issue| !matches!(issue, Issue::Locked { .. }));
        let problems = issues.map(ToString::to_string).collect();
        Ok(Self {
            recording,
            problems,
        })
    }

    /// A folder that does not exist lists like an empty one.
    fn or_not_found(self, uri: &str) -> Result<Self> {
        if self.is_there() {
            return Ok(self);
        }
        Err(
            Failure::not_found(format!("there is no recording (yet) at {uri}"))
                .hint("a recording on another machine is read with --store"),
        )
    }

    /// The session as the recording has it.
    pub fn session(&self) -> &Session {
        self.recording.session()
    }

    /// Declared losses in words.
    pub fn gaps(&self, zone: &Zone) -> Vec<String> {
        let gaps = self.recording.gaps().iter();
        gaps.map(|entry| {
            format!(
                "{} {}",
                zone.time_of_day(entry.time),
                timeline::gap(&entry.gap)
            )
        })
        .collect()
    }

    /// Gives every event in order to `take` until it breaks. Problems are kept
    /// for [`Content::take_problems`], and reading goes on behind them.
    ///
    /// # Errors
    /// The store failed, or `take` did, or the recording is encrypted and no key
    /// opens it.
    pub async fn each(
        &mut self,
        take: impl FnMut(&Record) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let records = &mut self.recording.records();
        give(&self.recording, records, &mut self.problems, take).await
    }

    /// Gives every event to `take` that came to the store behind `position`, which
    /// moves on; whether the recording has ended and this was the last of it.
    ///
    /// # Errors
    /// As for [`Content::each`].
    pub async fn more(
        &mut self,
        position: &mut Position,
        take: impl FnMut(&Record) -> Result<ControlFlow<()>>,
    ) -> Result<bool> {
        let known = self.recording.issues().len();
        let refreshed = self.recording.refresh().await;
        refreshed.map_err(|error| store_failure(&error))?;
        let found = self.recording.issues().iter().skip(known);
        self.problems.extend(found.map(ToString::to_string));
        let records = &mut self.recording.records_from(*position);
        give(&self.recording, records, &mut self.problems, take).await?;
        *position = records.position();
        Ok(self.recording.has_ended())
    }

    /// Whether the store has anything of it.
    pub fn is_there(&self) -> bool {
        self.recording.manifest().is_some() || self.recording.chunk_count() > 0
    }

    /// Every command, in order, with its end where it ended.
    pub(super) async fn commands(&mut self) -> Result<Vec<v1::Command>> {
        let id = self.recording.key().session_id();
        let mut commands = Vec::new();
        let mut places = HashMap::new();
        self.each(|record| {
            match record.event.as_ref().map(|event| &event.body) {
                Some(Body::Exec(exec)) => {
                    places.insert(record.seq, commands.len());
                    commands.push(convert::command(id, record.seq, record.time, exec));
                }
                Some(Body::Exit(exit)) => {
                    let place = exit.exec_seq.and_then(|seq| places.remove(&seq));
                    if let Some(command) = place.and_then(|place| commands.get_mut(place)) {
                        convert::end_command(command, exit);
                    }
                }
                _ => {}
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(commands)
    }

    /// Every activity, in order, network connections with their end where they
    /// ended.
    pub(super) async fn activities(&mut self) -> Result<Vec<v1::Activity>> {
        let id = self.recording.key().session_id();
        let mut activities = Vec::new();
        let mut places = HashMap::new();
        self.each(|record| {
            let Some(event) = &record.event else {
                return Ok(ControlFlow::Continue(()));
            };
            if let Body::Disconnect(end) = &event.body {
                let place = places.remove(&end.connect_seq);
                if let Some(connect) = place.and_then(|place: usize| activities.get_mut(place)) {
                    convert::end_connect(connect, end);
                }
            } else if let Some(activity) = convert::activity(id, event) {
                if let Body::Connect(_) = &event.body {
                    places.insert(event.seq, activities.len());
                }
                activities.push(activity);
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(activities)
    }

    /// What was found wrong so far, one line each.
    pub fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    /// Everybody that some chunk is encrypted to.
    fn recipients(&self, of: impl Fn(&EncryptedTo) -> &Vec<String>) -> Vec<String> {
        let all = self.recording.encryption().iter().flat_map(of);
        let all: BTreeSet<String> = all.cloned().collect();
        all.into_iter().collect()
    }

    pub(super) fn message(&self) -> v1::Session {
        let manifest = self.recording.manifest();
        v1::Session {
            recording: Some(v1::Recording {
                recipients: self.recipients(|to| &to.recipients),
                input_recipients: self.recipients(|to| &to.input_recipients),
                uri: self.recording.uri(),
                chunk_count: u32::try_from(self.recording.chunk_count()).unwrap_or(u32::MAX),
                stored_byte_count: self.recording.stored_bytes(),
                chain_head: manifest
                    .map_or_else(String::new, |manifest| manifest.chain_head.to_string()),
            }),
            ..self.session().into()
        }
    }
}

/// Gives the events of `records` to `take` until it breaks.
async fn give(
    recording: &Recording,
    records: &mut Records<'_>,
    problems: &mut Vec<String>,
    mut take: impl FnMut(&Record) -> Result<ControlFlow<()>>,
) -> Result<()> {
    while let Some(item) = records
        .next()
        .await
        .map_err(|error| store_failure(&error))?
    {
        match item {
            Item::Record(record) => {
                if take(&record)?.is_break() {
                    break;
                }
            }
            Item::Issue(Issue::Locked { .. }) => return Err(locked(recording)),
            Item::Issue(issue) if problems.len() < MAX_PROBLEMS => {
                problems.push(issue.to_string());
            }
            Item::Issue(_) => {}
        }
    }
    Ok(())
}

/// Nobody here may read the recording.
fn locked(recording: &Recording) -> Failure {
    let to = recording.encryption().iter().flat_map(|to| &to.recipients);
    let to: BTreeSet<String> = to.map(|key| describe::recipient(key)).collect();
    let to = match to.is_empty() {
        true => String::new(),
        false => format!(" to {}", Vec::from_iter(to).join(", ")),
    };
    Failure::locked(format!(
        "the recording is encrypted{to}; no key that opens it was given"
    ))
    .hint(
        "--identity names the file of a private key; `sessions`, `show` and `verify` work without",
    )
}

#[cfg(test)]
mod tests {
    use auditty_recording::store::StoreUrl;

    use super::located;

    const FOLDER: &str =
        "v1/host=h%201/date=2026-01-31/session=0199e0a4-7b1c-7000-8000-000000000001/";

    #[test]
    fn a_recordings_uri_gives_its_store_and_folder() {
        let (url, key) = located(&format!("s3://bucket/a/b/{FOLDER}")).unwrap();
        assert_eq!(url, "s3://bucket/a/b".parse::<StoreUrl>().unwrap());
        assert_eq!(key.to_string(), FOLDER);
        let escaped = FOLDER.replace('%', "%25");
        let (url, key) = located(&format!("file:///var/lib/a%20b/{escaped}")).unwrap();
        assert_eq!(url, StoreUrl::Local("/var/lib/a b/".into()));
        assert_eq!(key.to_string(), FOLDER);
        for wrong in ["", "file:///var/lib", "/var/lib", "http://x/v1/host=a/"] {
            assert!(located(wrong).is_err(), "{wrong}");
        }
    }
}

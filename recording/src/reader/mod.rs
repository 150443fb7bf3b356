//! A whole recording: its objects, its session, its events in order, and every
//! problem found on the way.

mod input;
mod issue;
mod listing;
mod records;

use std::collections::{BTreeMap, BTreeSet};

pub use issue::Issue;
pub use listing::{Filter, ListedRecording, find_session, list_recordings, session_keys};
pub use records::{Item, Position, Records};

use crate::encryption::{EncryptedTo, Identities};
use crate::key::{Form, ObjectKey, ObjectName, SessionKey};
use crate::manifest::{ChunkEntry, GapEntry, MAX_MANIFEST_BYTES, Manifest};
use crate::session::Session;
use crate::store::{AnyStore, Listed, StoreError};
use crate::summary::Summary;

/// How far a recording has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// `manifest.json` is there.
    Sealed,
    /// The agent stopped while the session was open; more may follow.
    Checkpoint,
    /// Only chunks so far.
    Open,
}

/// A recording in a store.
pub struct Recording {
    store: AnyStore,
    key: SessionKey,
    state: State,
    manifest: Option<Manifest>,
    /// Manifests that the store has, good or not.
    manifests: BTreeSet<ObjectName>,
    /// Chunks that the store has, with their sizes.
    stored: BTreeMap<u32, (Form, u64)>,
    issues: Vec<Issue>,
    summary: Summary,
    identities: Identities,
}

impl Recording {
    /// Opens the recording in folder `key`: reads its manifest, or the newest
    /// checkpoint. Without either, or where chunks follow a checkpoint, those
    /// chunks are read for the session's metadata.
    pub async fn open(store: AnyStore, key: SessionKey) -> Result<Self, StoreError> {
        Self::open_with(store, key, Identities::default()).await
    }

    /// The same, with private keys for what is encrypted.
    pub async fn open_with(
        store: AnyStore,
        key: SessionKey,
        identities: Identities,
    ) -> Result<Self, StoreError> {
        let listed = store.list(&key.to_string()).await?;
        let mut recording = Self {
            store,
            key,
            state: State::Open,
            manifest: None,
            manifests: BTreeSet::new(),
            stored: BTreeMap::new(),
            issues: Vec::new(),
            summary: Summary::default(),
            identities,
        };
        recording.load_manifest(&listed).await?;
        recording.load_session().await?;
        Ok(recording)
    }

    /// Looks at the store again: what came since it was opened is there as well.
    /// Without a new manifest, the session and its gaps are as they were.
    pub async fn refresh(&mut self) -> Result<(), StoreError> {
        let listed = self.store.list(&self.key.to_string()).await?;
        self.load_manifest(&listed).await
    }

    /// The folder.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    /// Where it is, for people.
    pub fn uri(&self) -> String {
        self.store.uri(&self.key.to_string())
    }

    /// How far it has got.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether nothing follows: the manifest of a finished recording is there, good
    /// or not.
    pub fn has_ended(&self) -> bool {
        self.manifests.contains(&ObjectName::Manifest)
    }

    /// The session: the manifest's, or what the events say.
    pub fn session(&self) -> &Session {
        &self.summary.session
    }

    /// Declared losses.
    pub fn gaps(&self) -> &[GapEntry] {
        &self.summary.gaps
    }

    /// The manifest or checkpoint, where there is a good one.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Problems seen while opening it; reading the events shows the others.
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// Chunks in the store.
    pub fn chunk_count(&self) -> usize {
        self.stored.len()
    }

    /// Bytes of all chunks as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.stored.values().map(|(_, bytes)| bytes).sum()
    }

    /// Whether any of it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        let listed = self.manifest.iter().flat_map(|manifest| &manifest.chunks);
        let stored = self.stored.values().map(|(form, _)| *form);
        listed
            .map(ChunkEntry::form)
            .chain(stored)
            .any(Form::is_encrypted)
    }

    /// Whether opening it met an encrypted chunk that none of the keys opens: the
    /// session's metadata is incomplete then.
    pub fn is_locked(&self) -> bool {
        let mut issues = self.issues.iter();
        issues.any(|issue| matches!(issue, Issue::Locked { .. }))
    }

    /// To whom, as far as a manifest says it.
    pub fn encryption(&self) -> &[EncryptedTo] {
        let manifest = self.manifest.as_ref();
        manifest.map_or(&[], |manifest| &manifest.encryption)
    }

    /// The name of a chunk: as the manifest has it, else as the store does.
    fn chunk(&self, number: u32) -> ObjectKey {
        // A good manifest lists chunk n at place n.
        let manifest = self.manifest.as_ref();
        let listed = manifest.and_then(|manifest| manifest.chunks.get(number as usize));
        let form = listed.map(ChunkEntry::form);
        let stored = self.stored.get(&number).map(|(form, _)| *form);
        let form = form.or(stored).unwrap_or(Form::Clear);
        self.key.object(ObjectName::Chunk(number, form))
    }

    /// All events in order, from the store.
    pub fn records(&self) -> Records<'_> {
        Records::new(self, self.chunk_numbers(0))
    }

    /// The events behind a position. While the recording goes on, they end where a
    /// chunk is not there yet.
    pub fn records_from(&self, position: Position) -> Records<'_> {
        let first = position.next_number();
        let mut numbers = self.chunk_numbers(first);
        if !self.has_ended() {
            let expected = (first..).zip(&numbers);
            let there = expected.take_while(|(expected, number)| expected == *number);
            let there = there.count();
            numbers.truncate(there);
        }
        Records::behind(self, numbers, position)
    }

    /// Numbers of the chunks from `first` on that the manifest or the listing
    /// has.
    fn chunk_numbers(&self, first: u32) -> Vec<u32> {
        let listed = self.manifest.iter().flat_map(|manifest| &manifest.chunks);
        let mut numbers: BTreeSet<u32> = listed.map(|chunk| chunk.number).collect();
        numbers.extend(self.stored.keys());
        numbers
            .into_iter()
            .filter(|&number| number >= first)
            .collect()
    }

    async fn load_manifest(&mut self, listed: &[Listed]) -> Result<(), StoreError> {
        let mut manifests = BTreeSet::new();
        for object in listed {
            let name = object.key.strip_prefix(&self.key.to_string());
            match name.and_then(|name| name.parse().ok()) {
                Some(ObjectName::Chunk(number, form)) => {
                    self.stored.insert(number, (form, object.bytes));
                }
                Some(name @ (ObjectName::Manifest | ObjectName::Checkpoint(_))) => {
                    manifests.insert(name);
                }
                _ => {}
            }
        }
        if manifests == self.manifests {
            return Ok(());
        }
        self.manifests.clone_from(&manifests);
        // Best first: the manifest, then checkpoints from the highest number.
        for name in manifests.into_iter().rev() {
            let key = self.key.object(name);
            let json = self.store.get(&key.to_string(), MAX_MANIFEST_BYTES).await?;
            let verified = Manifest::from_json(&json).and_then(|manifest| {
                manifest.verify(&self.key)?;
                Ok(manifest)
            });
            match verified {
                Ok(manifest) => {
                    self.state = match name {
                        ObjectName::Manifest => State::Sealed,
                        _ => State::Checkpoint,
                    };
                    self.summary = Summary::new(manifest.session.clone(), manifest.gaps.clone());
                    self.manifest = Some(manifest);
                    return Ok(());
                }
                Err(error) => self.issues.push(Issue::Manifest { key, error }),
            }
        }
        Ok(())
    }

    async fn load_session(&mut self) -> Result<(), StoreError> {
        if self.state == State::Sealed {
            return Ok(());
        }
        let known = self
            .manifest
            .as_ref()
            .map_or(0, |manifest| manifest.chunks.len());
        let first = u32::try_from(known).unwrap_or(u32::MAX);
        if known == 0 {
            self.summary.session.session_id = self.key.session_id();
            self.key
                .host_id()
                .clone_into(&mut self.summary.session.host.host_id);
        }
        let mut summary = std::mem::take(&mut self.summary);
        let mut records = Records::new(self, self.chunk_numbers(first));
        let mut locked = None;
        while let Some(item) = records.next().await? {
            match item {
                Item::Record(record) => {
                    match &record.event {
                        Some(event) => summary.apply(event),
                        None => summary.session.counts.events += 1,
                    }
                    if summary.session.start_time == jiff::Timestamp::UNIX_EPOCH {
                        summary.session.start_time = record.time;
                    }
                }
                Item::Issue(issue @ Issue::Locked { .. }) => {
                    locked.get_or_insert(issue);
                }
                Item::Issue(_) => {}
            }
        }
        self.summary = summary;
        self.issues.extend(locked);
        Ok(())
    }
}

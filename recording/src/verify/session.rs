//! One recording: signed, whole, in order, and as digests saw it.

use std::collections::{BTreeMap, BTreeSet};

use super::digests::{Digests, SeenWhat};
use super::keys::{HostKeys, Signed};
use super::open_chunk::{self, Before};
use super::{FindingKind, Notes, encrypted, fetch};
use crate::digest::Digest;
use crate::encryption::Identities;
use crate::key::{Form, ObjectName, SessionKey};
use crate::manifest::{ChunkEntry, MAX_MANIFEST_BYTES, Manifest};
use crate::session::{Counts, Verdict};
use crate::signature::{MANIFEST_NAMESPACE, MAX_SIGNATURE_BYTES};
use crate::store::{AnyStore, Body, MAX_OBJECT_BYTES};

/// Digests after a manifest was sealed that must have listed it: the next one
/// may have been made at the same moment.
const LISTING_DIGESTS: usize = 2;

/// Most missing chunks that are named one by one.
const MAX_NAMED: u32 = 1000;

/// What was checked.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) notes: Notes,
    pub(super) sealed: bool,
    pub(super) objects: u64,
    pub(super) bytes: u64,
    /// Encrypted chunks, and those of them that were read.
    pub(super) encrypted: u64,
    pub(super) opened: u64,
}

/// Verifies a recording.
pub(super) async fn verify(
    store: &AnyStore,
    key: &SessionKey,
    keys: &HostKeys,
    digests: &Digests,
    identities: &Identities,
) -> Checked {
    let mut check = Check {
        store,
        key,
        keys,
        digests,
        identities,
        counts: Some(Counts::default()),
        stored: BTreeMap::new(),
        hashes: BTreeMap::new(),
        manifests: BTreeMap::new(),
        checked: Checked::default(),
    };
    check.run().await;
    check.checked
}

struct Check<'a> {
    store: &'a AnyStore,
    key: &'a SessionKey,
    keys: &'a HostKeys,
    digests: &'a Digests,
    /// For the content of encrypted chunks.
    identities: &'a Identities,
    /// What the events of encrypted chunks add up to; `None` when not all were
    /// read.
    counts: Option<Counts>,
    /// Objects in the folder, with their sizes.
    stored: BTreeMap<ObjectName, u64>,
    /// Names and SHA-256 of the chunks that were read: where there are several of
    /// one number, of the one that is listed, or the first.
    hashes: BTreeMap<u32, (ObjectName, Digest)>,
    /// Digests of the manifests, and the manifests that are good.
    manifests: BTreeMap<ObjectName, (Digest, Option<Manifest>)>,
    checked: Checked,
}

impl Check<'_> {
    async fn run(&mut self) {
        if !self.list().await {
            return;
        }
        if self.stored.is_empty() {
            return self.gone();
        }
        self.checked.sealed = self.stored.contains_key(&ObjectName::Manifest);
        self.load_manifests().await;
        self.check_chunks().await;
        self.check_checkpoints();
        self.check_sums().await;
        self.check_seen();
        self.check_listed();
    }

    async fn list(&mut self) -> bool {
        let folder = self.key.to_string();
        let listed = match self.store.list(&folder).await {
            Ok(listed) => listed,
            Err(error) => {
                self.checked.notes.unchecked(error);
                return false;
            }
        };
        for object in listed {
            let name = object.key.strip_prefix(&folder).unwrap_or_default();
            match name.parse() {
                Ok(name) => {
                    self.stored.insert(name, object.bytes);
                }
                Err(_) => {
                    let text = format!("{}: not an object of this format", object.key);
                    self.checked.notes.notice(text);
                }
            }
        }
        true
    }

    /// Nothing is there, and somebody saw something.
    fn gone(&mut self) {
        let notes = &mut self.checked.notes;
        let seen = self.digests.seen(self.key);
        let stored = seen.iter().rev().find(|seen| match seen.what {
            SeenWhat::Manifest { .. } => !self.digests.is_waiting(self.key),
            SeenWhat::Chunks { chunks, .. } => chunks > 0,
        });
        match (stored, seen.last()) {
            (Some(seen), _) => {
                let detail = format!("the whole recording is missing; {} names it", seen.by);
                notes.find(FindingKind::Missing, self.key, detail);
            }
            (None, Some(seen)) => {
                let text = format!("{}: not stored yet when {} was made", self.key, seen.by);
                notes.notice(text);
            }
            (None, None) => {
                notes.find(FindingKind::Missing, self.key, "there is no recording");
            }
        }
    }

    async fn get(&mut self, name: ObjectName, limit: u64) -> Option<Body> {
        let key = self.key.object(name).to_string();
        let body = fetch(self.store, &key, limit, &mut self.checked.notes).await?;
        self.checked.objects += 1;
        self.checked.bytes += body.len() as u64;
        Some(body)
    }

    fn find(&mut self, kind: FindingKind, name: ObjectName, detail: impl ToString) {
        self.checked.notes.find(kind, self.key.object(name), detail);
    }

    async fn load_manifests(&mut self) {
        let names: Vec<ObjectName> = self.stored.keys().copied().collect();
        for name in names {
            let Some(signature_name) = name.signature() else {
                self.check_lonely(name);
                continue;
            };
            let Some(json) = self.get(name, MAX_MANIFEST_BYTES).await else {
                continue;
            };
            let signature = match self.stored.contains_key(&signature_name) {
                true => self.get(signature_name, MAX_SIGNATURE_BYTES).await,
                false => None,
            };
            let good = self.judge_manifest(name, &json, signature.as_deref());
            self.manifests.insert(name, (Digest::of(&json), good));
        }
    }

    /// A signature whose manifest is gone.
    fn check_lonely(&mut self, name: ObjectName) {
        let signed = match name {
            ObjectName::ManifestSignature => ObjectName::Manifest,
            ObjectName::CheckpointSignature(chunks) => ObjectName::Checkpoint(chunks),
            _ => return,
        };
        // It is stored first: a digest that lists the manifest tells the rest.
        if !self.stored.contains_key(&signed) {
            let text = format!(
                "{}: not there (yet), its signature is",
                self.key.object(signed)
            );
            self.checked.notes.notice(text);
        }
    }

    fn judge_manifest(
        &mut self,
        name: ObjectName,
        json: &[u8],
        signature: Option<&[u8]>,
    ) -> Option<Manifest> {
        let manifest = match Manifest::from_json(json) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.find(FindingKind::Malformed, name, error);
                return None;
            }
        };
        let object = self.key.object(name);
        let signed = Signed {
            object: &object,
            namespace: MANIFEST_NAMESPACE,
            json,
            signature,
            signed_by: manifest.signed_by.as_ref(),
            time: manifest.sealed_at,
        };
        let good = self.keys.check(&signed, &mut self.checked.notes);
        if manifest.name() != name {
            self.find(
                FindingKind::Reordered,
                name,
                "it is another manifest's content",
            );
            return None;
        }
        match manifest.verify(self.key) {
            Ok(()) => good.then_some(manifest),
            Err(error) => {
                self.find(FindingKind::BrokenChain, name, error);
                None
            }
        }
    }

    /// The entries of the newest good manifest.
    fn entries(&self) -> &[ChunkEntry] {
        let mut manifests = self.manifests.values().rev();
        let newest = manifests.find_map(|(_, manifest)| manifest.as_ref());
        newest.map_or(&[], |manifest| &manifest.chunks)
    }

    async fn check_chunks(&mut self) {
        let entries = self.entries().to_vec();
        let stored = self.stored.keys().filter_map(|name| match name {
            ObjectName::Chunk(number, form) => Some((*number, *form)),
            _ => None,
        });
        let stored: Vec<(u32, Form)> = stored.collect();
        let numbers: BTreeSet<u32> = stored.iter().map(|(number, _)| *number).collect();
        let end = numbers.last().map_or(0, |last| last.saturating_add(1));
        let listed = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.name_missing(&numbers, end.max(listed));
        let mut before = Before {
            chain_head: Some(Digest::ZERO),
            last_seq: Some(0),
        };
        let mut wrong = Vec::new();
        let mut position = 0;
        for (number, form) in stored {
            let name = ObjectName::Chunk(number, form);
            let Some(body) = self.get(name, MAX_OBJECT_BYTES).await else {
                self.counts = None;
                continue;
            };
            let sha256 = Digest::of(&body);
            let entry = entries.get(number as usize);
            match entry.filter(|entry| entry.key.name == name) {
                Some(entry) => {
                    self.hashes.insert(number, (name, sha256));
                    match entry.sha256 == sha256 {
                        true => self.check_content(entry, body, before),
                        false => {
                            self.counts = None;
                            wrong.push((number, entry.sha256, entry.bytes, body.len() as u64));
                        }
                    }
                    before.last_seq = Some(entry.last_seq);
                    before.chain_head = Some(entry.chain_head);
                }
                None => {
                    self.hashes.entry(number).or_insert((name, sha256));
                    if position != number {
                        (before.chain_head, before.last_seq) = (None, None);
                    }
                    self.check_unlisted(name, sha256, body, &mut before);
                }
            }
            position = number.saturating_add(1);
        }
        for (number, expected, bytes, found_bytes) in wrong {
            self.classify(number, expected, bytes, found_bytes);
        }
        self.check_counts();
    }

    /// Whether an encrypted chunk holds what the manifest says of it, where a key
    /// opens it. What is not encrypted is bound by its digest, and can be read by
    /// anybody.
    fn check_content(&mut self, entry: &ChunkEntry, body: Body, before: Before) {
        if !entry.form().is_encrypted() {
            self.counts = None;
            return;
        }
        self.checked.encrypted += 1;
        let counts = self.counts.as_mut();
        let notes = &mut self.checked.notes;
        match encrypted::check(
            entry,
            body,
            before.chain_head,
            self.identities,
            counts,
            notes,
        ) {
            true => self.checked.opened += 1,
            false if entry.form() == Form::Encrypted => self.counts = None,
            false => {}
        }
    }

    /// Whether the manifest's counts are those of the events.
    fn check_counts(&mut self) {
        let name = ObjectName::Manifest;
        let Some((_, Some(manifest))) = self.manifests.get(&name) else {
            return;
        };
        // What a crash has lost is counted, and stands in no chunk.
        let listed = manifest.session.counts;
        let whole = manifest.session.verdict == Verdict::Complete && listed.gaps == 0;
        if let Some(counts) = self.counts
            && whole
            && self.checked.opened > 0
            && counts != listed
        {
            let detail = format!("it counts {listed:?}; the chunks hold {counts:?}");
            self.find(FindingKind::Malformed, name, detail);
        }
    }

    fn name_missing(&mut self, stored: &BTreeSet<u32>, end: u32) {
        let mut named = 0;
        for number in (0..end).filter(|number| !stored.contains(number)) {
            named += 1;
            if named > MAX_NAMED {
                return;
            }
            let name = self.name(number);
            self.find(FindingKind::Missing, name, "the chunk is missing");
        }
    }

    /// The name of a chunk: as a good manifest has it, or else the store.
    fn name(&self, number: u32) -> ObjectName {
        let listed = self.entries().get(number as usize);
        let stored = self.hashes.get(&number);
        let name = listed.map(|entry| entry.key.name);
        name.or(stored.map(|(name, _)| *name))
            .unwrap_or(ObjectName::Chunk(number, Form::Clear))
    }

    /// A chunk behind the newest good manifest, or beside what it lists.
    fn check_unlisted(
        &mut self,
        name: ObjectName,
        sha256: Digest,
        body: Body,
        before: &mut Before,
    ) {
        let sealed = matches!(
            self.manifests.get(&ObjectName::Manifest),
            Some((_, Some(_)))
        );
        let listed = |number: u32| self.entries().len() > number as usize;
        if sealed || matches!(name, ObjectName::Chunk(number, _) if listed(number)) {
            let copy = self.copy_of(name, sha256);
            match copy {
                Some(other) => {
                    let detail = format!("it is a copy of chunk {other:06}");
                    self.find(FindingKind::Duplicated, name, detail);
                }
                None => self.find(FindingKind::Unlisted, name, "the manifest does not list it"),
            }
            return;
        }
        let key = self.key.object(name);
        let notes = &mut self.checked.notes;
        let found = open_chunk::check(&key, body, *before, self.identities, notes);
        self.checked.encrypted += u64::from(found.encrypted);
        self.checked.opened += u64::from(found.encrypted && found.opened);
        let last_seq = found.last_seq;
        *before = Before {
            chain_head: before.chain_head.map(|head| head.chain(&sha256, &key)),
            last_seq,
        };
    }

    /// Another chunk that should have, or has, this one's content.
    fn copy_of(&self, name: ObjectName, sha256: Digest) -> Option<u32> {
        let entry = self.entries().iter().find(|entry| entry.sha256 == sha256);
        entry
            .filter(|entry| entry.key.name != name)
            .map(|entry| entry.number)
    }

    /// What happened to a chunk that is not what the manifest says.
    fn classify(&mut self, number: u32, expected: Digest, bytes: u64, found_bytes: u64) {
        let name = self.name(number);
        let hash = |number: u32| self.hashes.get(&number).map(|(_, sha256)| *sha256);
        let found = hash(number).unwrap_or_default();
        let (kind, detail) = match self.copy_of(name, found) {
            Some(other) => {
                let in_place = hash(other) == hash(number);
                let kind = match in_place {
                    true => FindingKind::Duplicated,
                    false => FindingKind::Reordered,
                };
                (kind, format!("it has the content of chunk {other:06}"))
            }
            None if found_bytes < bytes => (
                FindingKind::Truncated,
                format!("it has {found_bytes} of {bytes} bytes"),
            ),
            None => (
                FindingKind::Changed,
                format!("its SHA-256 is not {expected}, as the manifest says"),
            ),
        };
        self.find(kind, name, detail);
    }

    /// What a checkpoint lists, every later manifest has to begin with.
    fn check_checkpoints(&mut self) {
        let entries = self.entries().to_vec();
        let mut wrong = Vec::new();
        for (name, (_, manifest)) in &self.manifests {
            let Some(manifest) = manifest else { continue };
            let begins = manifest.chunks.len() <= entries.len()
                && manifest.chunks.iter().zip(&entries).all(|(a, b)| a == b);
            if !begins {
                wrong.push(*name);
            }
        }
        for name in wrong {
            let detail = "it lists other chunks than the manifest after it";
            self.find(FindingKind::Changed, name, detail);
        }
    }

    async fn check_sums(&mut self) {
        let name = ObjectName::Sha256Sums;
        let Some((sha256, Some(manifest))) = self.manifests.get(&ObjectName::Manifest) else {
            return;
        };
        let expected = manifest.sha256sums_of(sha256);
        if !self.stored.contains_key(&name) {
            return self.find(FindingKind::Missing, name, "it is missing");
        }
        if let Some(found) = self.get(name, MAX_MANIFEST_BYTES).await
            && found.as_ref() != expected.as_bytes()
        {
            let kind = match found.len() < expected.len() {
                true => FindingKind::Truncated,
                false => FindingKind::Changed,
            };
            self.find(kind, name, "it is not what the manifest gives");
        }
    }

    /// Compares with what digests and collectors saw.
    fn check_seen(&mut self) {
        let heads = self.heads();
        for seen in self.digests.seen(self.key) {
            match &seen.what {
                SeenWhat::Manifest { name, sha256 } => match self.manifests.get(name) {
                    Some((found, _)) if found == sha256 => {}
                    Some(_) => {
                        let detail = format!("{} lists another content: sealed again", seen.by);
                        self.find(FindingKind::Replaced, *name, detail);
                    }
                    None if self.stored.contains_key(name) => {}
                    None if self.digests.is_waiting(self.key) => {
                        let object = self.key.object(*name);
                        let text = format!("{object}: not stored yet when {} was made", seen.by);
                        self.checked.notes.notice(text);
                    }
                    None => {
                        let detail = format!("it is missing; {} lists it", seen.by);
                        self.find(FindingKind::Missing, *name, detail);
                    }
                },
                SeenWhat::Chunks { chunks, chain_head } => {
                    self.check_head(*chunks, *chain_head, &seen.by, &heads);
                }
            }
        }
    }

    fn check_head(&mut self, chunks: u32, head: Digest, by: &str, heads: &[Digest]) {
        let Some(last) = chunks.checked_sub(1) else {
            return;
        };
        match heads.get(last as usize) {
            Some(found) if *found == head => {}
            Some(_) => {
                let detail = format!("its chain head is not the one that {by} saw");
                self.find(FindingKind::Changed, self.name(last), detail);
            }
            None => {
                let detail = format!(
                    "{by} saw {chunks} chunks; {} follow each other",
                    heads.len()
                );
                let first = u32::try_from(heads.len()).unwrap_or(u32::MAX);
                self.find(FindingKind::RolledBack, self.name(first), detail);
            }
        }
    }

    /// Chain heads after each chunk: as the newest good manifest has them, then
    /// as the chunks behind it give them.
    fn heads(&self) -> Vec<Digest> {
        let mut heads: Vec<Digest> = self
            .entries()
            .iter()
            .map(|entry| entry.chain_head)
            .collect();
        let mut number = u32::try_from(heads.len()).unwrap_or(u32::MAX);
        let sealed = matches!(
            self.manifests.get(&ObjectName::Manifest),
            Some((_, Some(_)))
        );
        while let (false, Some((name, sha256))) = (sealed, self.hashes.get(&number)) {
            let before = heads.last().copied().unwrap_or(Digest::ZERO);
            heads.push(before.chain(sha256, &self.key.object(*name)));
            number += 1;
        }
        heads
    }

    /// A sealed manifest stands in a digest soon.
    fn check_listed(&mut self) {
        let name = ObjectName::Manifest;
        let Some((_, Some(manifest))) = self.manifests.get(&name) else {
            return;
        };
        let Some(signed_by) = &manifest.signed_by else {
            return;
        };
        let later = self.digests.later(&signed_by.log, manifest.sealed_at);
        let listed = self.digests.seen(self.key).iter().any(
            |seen| matches!(seen.what, SeenWhat::Manifest { name: listed, .. } if listed == name),
        );
        if !listed && later >= LISTING_DIGESTS {
            let detail = format!("none of the {later} digests made since lists it");
            self.find(FindingKind::Unlisted, name, detail);
        }
    }
}

//! The end of a recording, in steps: seal, sign, let it out. And the checkpoint
//! of one that goes on without this agent.

use std::fs;

use auditty_recording::encryption::EncryptedTo;
use auditty_recording::key::ObjectName;
use auditty_recording::manifest::{ChunkEntry, GapEntry, Manifest};
use auditty_recording::session::Session;

use super::super::files::{SpoolError, rename, with_suffix, write_synced, write_whole};
use super::super::folder::KeptSession;
use super::super::signer::Signer;
use super::super::usage::Usage;
use super::SpooledSession;

/// The objects of a signed manifest, with their content.
pub(in crate::delivery) type SignedManifest = [(ObjectName, Vec<u8>); 3];

impl SpooledSession {
    /// Begins to end the recording: seals what is open. The manifest to be
    /// signed; `None` when that was done before. May be repeated, like all steps
    /// of the end, until it succeeds.
    pub(in crate::delivery) fn begin_end(
        &mut self,
        usage: &Usage,
    ) -> Result<Option<Manifest>, SpoolError> {
        if self.kept.finished {
            return Ok(None);
        }
        self.seal(usage)?;
        let listed = self.chunks()?;
        let session = self.listed_session(&listed);
        let manifest = Manifest::sealed(session, listed.chunks, listed.gaps);
        Ok(Some(manifest.encrypted(listed.encryption)))
    }

    /// Signs the manifest: the objects that it becomes.
    pub(in crate::delivery) fn sign(
        &self,
        mut manifest: Manifest,
        signer: &mut Signer,
    ) -> Result<SignedManifest, SpoolError> {
        let path = self.folder.object(ObjectName::Manifest);
        let (json, signature) = signer.seal(&mut manifest, &path)?;
        let sums = manifest.sha256sums(&json).into_bytes();
        Ok([
            (ObjectName::Manifest, json),
            (ObjectName::ManifestSignature, signature.into_bytes()),
            (ObjectName::Sha256Sums, sums),
        ])
    }

    /// Ends the recording with the signed manifest.
    pub(in crate::delivery) fn end(
        &mut self,
        objects: Option<SignedManifest>,
        usage: &Usage,
        signer: &Signer,
    ) -> Result<(), SpoolError> {
        if let Some(objects) = objects {
            for (name, content) in &objects {
                write_synced(&with_suffix(&self.folder.object(*name), ".new"), content)?;
                usage.add(content.len() as u64);
            }
            let kept = KeptSession {
                finished: true,
                ..self.kept.clone()
            };
            self.folder.write_kept(&kept)?;
            (self.kept, self.unkept) = (kept, false);
        }
        self.give_free(signer)?;
        self.ended = true;
        Ok(())
    }

    /// Gives the prepared objects their names, the manifest last and after it
    /// was noted for the next digest.
    fn give_free(&self, signer: &Signer) -> Result<(), SpoolError> {
        for name in [
            ObjectName::ManifestSignature,
            ObjectName::Sha256Sums,
            ObjectName::Manifest,
        ] {
            let path = self.folder.object(name);
            let prepared = with_suffix(&path, ".new");
            if !prepared.exists() {
                continue;
            }
            if name == ObjectName::Manifest {
                let json = fs::read(&prepared)
                    .map_err(|error| SpoolError::new("read", &prepared, error))?;
                signer.list(self.key.object(name), &json)?;
            }
            rename(&prepared, &path)?;
        }
        Ok(())
    }

    /// Writes down, signed, what is stored of a session that goes on without
    /// this agent.
    pub(in crate::delivery) fn checkpoint(
        &mut self,
        usage: &Usage,
        signer: &mut Signer,
    ) -> Result<(), SpoolError> {
        self.seal(usage)?;
        if self.next_chunk == self.kept.checkpoint {
            return Ok(());
        }
        let listed = self.chunks()?;
        let session = self.listed_session(&listed);
        let manifest = Manifest::checkpoint(session, listed.chunks, listed.gaps);
        let mut manifest = manifest.encrypted(listed.encryption);
        let name = manifest.name();
        let path = self.folder.object(name);
        let (json, signature) = signer.seal(&mut manifest, &path)?;
        if let Some(name) = name.signature() {
            write_whole(&self.folder.object(name), signature.as_bytes())?;
        }
        write_whole(&path, &json)?;
        usage.add((json.len() + signature.len()) as u64);
        self.kept.checkpoint = self.next_chunk;
        self.folder.write_kept(&self.kept)?;
        signer.list(self.key.object(name), &json)
    }

    /// Whether the store does not have everything of a manifest yet.
    pub(in crate::delivery) fn is_waiting(&self) -> bool {
        let complete = self.stored.as_ref().is_some_and(|stored| stored.complete);
        let manifest_waits = || {
            self.folder
                .objects()
                .is_ok_and(|objects| objects.iter().any(|name| name.signature().is_some()))
        };
        (self.kept.finished && !complete) || manifest_waits()
    }

    fn chunks(&self) -> Result<Listed, SpoolError> {
        let mut listed = Listed::default();
        for seal in self.folder.seals()? {
            listed.chunks.push(seal.entry);
            listed.gaps.extend(seal.gaps);
            let same = |a: &EncryptedTo, b: &EncryptedTo| {
                a.recipients == b.recipients && a.input_recipients == b.input_recipients
            };
            if let Some(to) = seal.encrypted_to
                && !listed.encryption.last().is_some_and(|last| same(last, &to))
            {
                listed.encryption.push(to);
            }
        }
        Ok(listed)
    }

    /// The session for a manifest, which anybody can read: of an encrypted
    /// recording without the command that was asked for.
    fn listed_session(&self, listed: &Listed) -> Session {
        let mut session = self.kept.record.session.clone();
        if !listed.encryption.is_empty() {
            session.command.clear();
        }
        session
    }
}

/// What a manifest lists.
#[derive(Default)]
struct Listed {
    chunks: Vec<ChunkEntry>,
    gaps: Vec<GapEntry>,
    encryption: Vec<EncryptedTo>,
}

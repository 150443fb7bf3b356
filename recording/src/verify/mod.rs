//! Is a store what its hosts sealed?
//!
//! One session, a day, a host or everything, offline, with public keys alone:
//! from a file that somebody trusts ([`TrustedKeys`]), or from the hosts' key
//! logs in the store itself. Whatever is wrong is a [`Finding`] that names the
//! object; nothing stops at the first one.
//!
//! | room | what it checks |
//! |---|---|
//! | [`keys`] | key logs: every key certified by the one before |
//! | [`digests`] | digest chains: none missing, none replaced; what they saw |
//! | [`session`] | a recording: signed, whole, in order, and as digests saw it |
//! | [`encrypted`] | what encrypted chunks hold, where a private key is given |

mod digests;
mod encrypted;
mod findings;
mod keys;
mod open_chunk;
mod session;
mod trust;

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use jiff::civil::Date;

pub use findings::{Finding, FindingKind, HostSummary, KnownHead, Report};
pub use keys::{HostKeys, LoggedKey};
pub use trust::{TrustError, TrustedKey, TrustedKeys};

use crate::digest::Digest;
use crate::encryption::Identities;
use crate::escape;
use crate::host::LogId;
use crate::key::{ROOT, SessionKey, host_folder};
use crate::reader::{Filter, session_keys};
use crate::store::{AnyStore, Body, StoreError};
use digests::{Days, Digests};
use findings::Notes;

/// A script that verifies a folder of recordings with `zstd`, `jq`, `sha256sum`
/// and `ssh-keygen` alone.
pub const SCRIPT: &str = include_str!("verify.sh");

/// Sessions that are verified at once: each has at most one chunk in memory.
const PARALLEL: usize = 4;

/// Most sessions of a host that are looked at again before something is said to
/// be wrong with them.
const MAX_SECOND_LOOKS: usize = 1000;

/// What is to be verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    #[default]
    All,
    /// One host.
    Host(String),
    /// Sessions that began on this UTC date, on every host or one.
    Date(Date, Option<String>),
    /// One session.
    Session(SessionKey),
}

/// What is known from outside the store.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Keys that are trusted; without them, what is registered.
    pub keys: Option<TrustedKeys>,
    /// Key log entries that hosts have registered with a collector. Where a host
    /// has none, and no keys are given, its first key log is trusted.
    pub registered: Vec<RegisteredKey>,
    /// Digests that were seen before: the chains must still have them.
    pub heads: Vec<KnownHead>,
    /// Chain heads that were seen before, such as a collector's.
    pub chain_heads: Vec<KnownChain>,
    /// Private keys: what is encrypted to them is read and compared with the
    /// manifest as well. Nothing else takes them.
    pub identities: Identities,
}

/// A key log entry as its host has registered it with a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredKey {
    /// The host.
    pub host_id: String,
    /// The key log.
    pub log: LogId,
    /// Number of the entry.
    pub number: u64,
    /// SHA-256 of its JSON as stored.
    pub sha256: Digest,
}

/// The chain head of a recording as somebody outside saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownChain {
    /// The recording.
    pub session: SessionKey,
    /// Chunks then, at least one.
    pub chunks: u32,
    /// Chain head after them.
    pub chain_head: Digest,
    /// Who saw it, and when, in words.
    pub by: String,
}

/// How far a verification has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Sessions done.
    pub sessions: u64,
    /// Of so many of the host at hand.
    pub of: u64,
}

/// Verifies, telling `progress` how far it has got.
///
/// # Errors
/// The store cannot be listed. Objects that cannot be read are in
/// [`Report::unchecked`].
pub async fn verify(
    store: &AnyStore,
    scope: &Scope,
    known: &Known,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report, StoreError> {
    let mut report = Report {
        keys_given: known.keys.is_some(),
        receipts: known.chain_heads.len() as u64,
        registered_keys: known.registered.len() as u64,
        known_heads: known.heads.len() as u64,
        ..Report::default()
    };
    for host_id in hosts(store, scope, known).await? {
        verify_host(store, &host_id, scope, known, progress, &mut report).await?;
    }
    Ok(report)
}

/// The key logs of a host, for export: what is wrong with them is a finding of
/// [`verify`].
///
/// # Errors
/// The store cannot be listed.
pub async fn load_keys(store: &AnyStore, host_id: &str) -> Result<HostKeys, StoreError> {
    keys::load(store, host_id, &Known::default(), &mut Notes::default()).await
}

/// Keys of every object that verifying one session takes: its own, the host's
/// key logs, and the digests from its start to the day after it was sealed.
///
/// # Errors
/// The store cannot be listed.
pub async fn evidence(store: &AnyStore, session: &SessionKey) -> Result<Vec<String>, StoreError> {
    let sessions = [session.clone()].into();
    let days = Days::of_sessions(store, &sessions, &Scope::Session(session.clone())).await;
    let mut keys = digests::list_keys(store, session.host_id(), days).await?;
    let host = session.host_id();
    for folder in [session.to_string(), crate::host::keys_folder(host)] {
        let listed = store.list(&folder).await?;
        keys.extend(listed.into_iter().map(|object| object.key));
    }
    keys.sort();
    Ok(keys)
}

/// Ids of the hosts in a store.
///
/// # Errors
/// The store cannot be listed.
pub async fn host_ids(store: &AnyStore) -> Result<BTreeSet<String>, StoreError> {
    hosts(store, &Scope::All, &Known::default()).await
}

async fn hosts(
    store: &AnyStore,
    scope: &Scope,
    known: &Known,
) -> Result<BTreeSet<String>, StoreError> {
    let host = match scope {
        Scope::Session(key) => Some(key.host_id().to_owned()),
        Scope::Host(host) | Scope::Date(_, Some(host)) => Some(host.clone()),
        Scope::All | Scope::Date(_, None) => None,
    };
    if let Some(host) = host {
        return Ok([host].into());
    }
    let folders = store.folders(ROOT).await?;
    let name = |folder: &String| {
        let name = folder.strip_prefix(ROOT)?.strip_prefix("host=")?;
        escape::unpercent(name.strip_suffix('/')?)
    };
    let mut hosts: BTreeSet<String> = folders.iter().filter_map(name).collect();
    // A host that was removed whole is still remembered outside.
    hosts.extend(known.heads.iter().map(|head| head.host_id.clone()));
    hosts.extend(known.registered.iter().map(|key| key.host_id.clone()));
    let seen = known.chain_heads.iter();
    hosts.extend(seen.map(|chain| chain.session.host_id().to_owned()));
    Ok(hosts)
}

async fn verify_host(
    store: &AnyStore,
    host_id: &str,
    scope: &Scope,
    known: &Known,
    progress: &(dyn Fn(Progress) + Sync),
    report: &mut Report,
) -> Result<(), StoreError> {
    let mut notes = Notes::default();
    let mut sessions: BTreeSet<SessionKey> = match scope {
        Scope::Session(key) => [key.clone()].into(),
        Scope::All | Scope::Host(_) | Scope::Date(..) => {
            let date = match scope {
                Scope::Date(date, _) => Some(*date),
                _ => None,
            };
            let filter = Filter {
                host_id: Some(host_id.to_owned()),
                from: date,
                to: date,
            };
            session_keys(store, &filter).await?.into_iter().collect()
        }
    };
    let days = match scope {
        Scope::All | Scope::Host(_) => Days::all(),
        Scope::Date(..) | Scope::Session(_) => Days::of_sessions(store, &sessions, scope).await,
    };
    let mut sworn = Sworn::load(store, host_id, days, known).await?;
    if sworn.notes.has_findings() {
        // A host that goes on changes its key, or makes a digest, while it is
        // looked at.
        sworn = Sworn::load(store, host_id, days, known).await?;
    }
    let Sworn {
        mut keys,
        mut digests,
        notes: own_notes,
    } = sworn;
    notes.append(own_notes);
    if !matches!(scope, Scope::Session(_)) {
        let expected = digests.sessions().filter(|key| match scope {
            Scope::Date(date, _) => key.date() == *date,
            _ => true,
        });
        sessions.extend(expected.cloned());
    }
    if sessions.is_empty() && keys.is_empty() && matches!(scope, Scope::Host(_)) {
        let problem = "nothing of this host is in the store";
        notes.find(FindingKind::Missing, host_folder(host_id), problem);
    }
    report.add_host(host_id, &keys, &digests);
    let of = sessions.len() as u64;
    let mut again = Vec::new();
    {
        let mut checks = stream::iter(&sessions)
            .map(async |key| {
                (
                    key,
                    session::verify(store, key, &keys, &digests, &known.identities).await,
                )
            })
            .buffered(PARALLEL);
        let mut done = 0;
        while let Some((key, checked)) = checks.next().await {
            done += 1;
            report.add_session(&checked);
            if checked.notes.has_findings() && again.len() < MAX_SECOND_LOOKS {
                again.push(key);
            } else {
                notes.append(checked.notes);
            }
            progress(Progress { sessions: done, of });
        }
    }
    if !again.is_empty() {
        // They may have gone on in the meantime, under another key.
        Sworn { keys, digests, .. } = Sworn::load(store, host_id, days, known).await?;
        for key in again {
            let checked = session::verify(store, key, &keys, &digests, &known.identities).await;
            notes.append(checked.notes);
        }
    }
    report.add_notes(notes);
    Ok(())
}

/// What a host says of itself, and what is wrong with that.
struct Sworn {
    keys: HostKeys,
    digests: Digests,
    notes: Notes,
}

impl Sworn {
    async fn load(
        store: &AnyStore,
        host_id: &str,
        days: Days,
        known: &Known,
    ) -> Result<Self, StoreError> {
        let mut notes = Notes::default();
        let keys = keys::load(store, host_id, known, &mut notes).await?;
        let mut digests = Digests::load(store, host_id, &keys, days, &mut notes).await?;
        digests.check_known(host_id, &known.heads, days, &mut notes);
        digests.add_known(host_id, &known.chain_heads);
        Ok(Self {
            keys,
            digests,
            notes,
        })
    }
}

/// An object's content; `None` when it is not there or cannot be read, which is
/// then noted as not checked.
async fn fetch(store: &AnyStore, key: &str, limit: u64, notes: &mut Notes) -> Option<Body> {
    match store.get(key, limit).await {
        Ok(body) => Some(body),
        Err(error) if error.is_not_found() => None,
        Err(error) => {
            notes.unchecked(error.to_string());
            None
        }
    }
}

//! What hosts have registered with the collector: their keys, and how far their
//! digest chains went.

use auditty_proto::v1;
use auditty_recording::host::DigestHead;
use auditty_recording::verify::{Known, KnownHead, RegisteredKey, Scope, TrustedKey};
use jiff::Timestamp;

use crate::failure::{Failure, Result};
use crate::source::Collector;
use crate::{moment, out, paging};

/// Keys or digests on a page.
const PAGE: i32 = 1000;

/// All keys of a host, or of all hosts.
pub(super) async fn keys(collector: &mut Collector, host: &str) -> Result<Vec<v1::HostKey>> {
    let all = paging::all(String::new(), async |page_token| {
        let request = v1::ListHostKeysRequest {
            host_id: host.to_owned(),
            page_size: PAGE,
            page_token,
        };
        collector.list_host_keys(request).await
    });
    Ok(all.await?.keys)
}

async fn heads(collector: &mut Collector, host: &str) -> Result<Vec<v1::DigestHead>> {
    let all = paging::all(String::new(), async |page_token| {
        let request = v1::ListDigestHeadsRequest {
            host_id: host.to_owned(),
            page_size: PAGE,
            page_token,
        };
        collector.list_digest_heads(request).await
    });
    Ok(all.await?.heads)
}

/// Adds what is registered for a scope to what is known; says which keys do not
/// count.
pub(super) async fn compare(
    collector: &mut Collector,
    scope: &Scope,
    known: &mut Known,
) -> Result<()> {
    let host = match scope {
        Scope::Session(session) => session.host_id(),
        Scope::Host(host) | Scope::Date(_, Some(host)) => host,
        Scope::All | Scope::Date(_, None) => "",
    };
    for key in keys(collector, host).await? {
        match counts(&key) {
            true => known.registered.push(registered(&key)?),
            false => out::warn(&uncertified(&key)),
        }
    }
    for head in heads(collector, host).await? {
        known.heads.push(known_head(&head)?);
    }
    Ok(())
}

/// Whether it is one of its host's.
pub(super) fn counts(key: &v1::HostKey) -> bool {
    key.standing() != v1::KeyStanding::Uncertified
}

fn uncertified(key: &v1::HostKey) -> String {
    let since = moment::from_proto(key.registered_time.as_ref()).unwrap_or_default();
    format!(
        "the host {} reported the key {} at {since}, which none of its keys certifies: it was set \
         up again, or somebody reports in its name",
        key.host_id, key.fingerprint
    )
}

fn registered(key: &v1::HostKey) -> Result<RegisteredKey> {
    let (Ok(log), Ok(sha256)) = (key.log.parse(), key.sha256.parse()) else {
        return Err(unreadable("key", &key.host_id));
    };
    Ok(RegisteredKey {
        host_id: key.host_id.clone(),
        log,
        number: key.number,
        sha256,
    })
}

fn known_head(head: &v1::DigestHead) -> Result<KnownHead> {
    let (Ok(log), Ok(sha256)) = (head.log.parse(), head.sha256.parse()) else {
        return Err(unreadable("digest", &head.host_id));
    };
    Ok(KnownHead {
        host_id: head.host_id.clone(),
        log,
        head: DigestHead {
            number: head.number,
            sha256,
        },
    })
}

/// The keys that count as lines of an `allowed_signers` file.
pub(super) fn allowed_signers(keys: &[v1::HostKey]) -> Result<String> {
    let keys: Vec<_> = keys.iter().filter(|key| counts(key)).collect();
    let mut lines = String::new();
    for (place, key) in keys.iter().enumerate() {
        let Ok(public_key) = key.public_key.parse() else {
            return Err(unreadable("key", &key.host_id));
        };
        let next = keys.get(place + 1).filter(|next| {
            (&next.host_id, &next.log, next.number) == (&key.host_id, &key.log, key.number + 1)
        });
        let since = not_before(key).unwrap_or_default();
        let until = next.and_then(|next| not_before(next));
        let comment = format!("{} {}/{:06}", key.host_id, key.log, key.number);
        let trusted = TrustedKey::of_host(&key.host_id, public_key, since, until);
        lines += &trusted.line(&comment);
    }
    Ok(lines)
}

fn not_before(key: &v1::HostKey) -> Option<Timestamp> {
    moment::from_proto(key.not_before_time.as_ref())
}

fn unreadable(what: &str, host_id: &str) -> Failure {
    Failure::error(format!(
        "the collector has a {what} of the host {host_id} that is none"
    ))
}

//! Following a real collector: over breaks, from disk, and beside files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use auditty_collector::{Access, Countersigner, Listeners, Location, Store, serve};
use auditty_proto::v1::grant_service_client::GrantServiceClient;
use auditty_proto::v1::{self, AccessGrant, WatchGrantsResponse};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::known::Known;
use super::{Followed, Follower, Sources};
use crate::config::Address;
use crate::delivery::dial;

fn grant(id: &str) -> AccessGrant {
    AccessGrant {
        grant: Some(v1::Grant {
            request_id: id.into(),
            approvers: vec!["bob".into()],
            ..v1::Grant::default()
        }),
        unix_users: vec!["alice".into()],
        ..AccessGrant::default()
    }
}

fn ids(followed: &Followed) -> Vec<String> {
    let rules = followed.rules().0.into_iter();
    rules.map(|rule| rule.grant.request_id).collect()
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A collector of the machine itself.
struct Collector {
    stop: CancellationToken,
    serving: JoinHandle<()>,
    channel: Channel,
}

impl Collector {
    async fn start(folder: &Path) -> Self {
        let place = Location::Sqlite(folder.join("c.db"));
        let store = Store::open(&place).await.unwrap();
        let address = format!("unix:{}", socket(folder).display()).parse();
        let listeners = Listeners::bind(&[address.unwrap()], false).await.unwrap();
        let stop = CancellationToken::new();
        let shutdown = stop.clone();
        let signer = Countersigner::open(&folder.join("collector.key")).unwrap();
        let serving = tokio::spawn(async move {
            let served = serve(
                listeners,
                store.clone(),
                signer,
                Access::default(),
                shutdown,
            );
            served.await.unwrap();
            store.close().await;
        });
        Self {
            stop,
            serving,
            channel: channel(folder),
        }
    }

    async fn create(&self, id: &str) {
        let grant = Some(grant(id));
        let mut client = GrantServiceClient::new(self.channel.clone());
        let ask = v1::CreateGrantRequest { grant };
        client.create_grant(ask).await.unwrap();
    }

    async fn revoke(&self, id: &str) {
        let mut client = GrantServiceClient::new(self.channel.clone());
        let ask = v1::RevokeGrantRequest {
            name: format!("grants/{id}"),
            ..Default::default()
        };
        client.revoke_grant(ask).await.unwrap();
    }

    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("c.sock")
}

fn channel(folder: &Path) -> Channel {
    dial(&Address::Unix(socket(folder))).unwrap()
}

/// An agent's part in it.
struct Agent {
    followed: Followed,
    stop: CancellationToken,
    following: JoinHandle<()>,
}

impl Agent {
    fn start(folder: &Path) -> Self {
        let (followed, stop) = (Followed::default(), CancellationToken::new());
        let kept = folder.join("kept");
        let follower = Follower::new(channel(folder), "host-1", &kept, followed.clone());
        let following = tokio::spawn(follower.run(stop.clone()));
        Self {
            followed,
            stop,
            following,
        }
    }

    async fn knows(&self, wanted: &[&str]) {
        let what = format!("{wanted:?} are known");
        eventually(&what, || {
            ids(&self.followed) == wanted && self.followed.rules().1
        })
        .await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.following.await.unwrap();
    }
}

#[tokio::test]
async fn what_happens_without_the_agent_or_the_collector_is_made_up_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let collector = Collector::start(folder).await;
    collector.create("a").await;
    let agent = Agent::start(folder);
    agent.knows(&["a"]).await;
    assert!(agent.followed.take_changed() && !agent.followed.take_changed());
    collector.create("b").await;
    agent.knows(&["a", "b"]).await;
    // The collector goes and comes again.
    collector.stop().await;
    let collector = Collector::start(folder).await;
    collector.create("c").await;
    agent.knows(&["a", "b", "c"]).await;
    agent.stop().await;
    collector.revoke("a").await;
    collector.stop().await;

    // Both were away: the next agent knows what the one before knew.
    let agent = Agent::start(folder);
    assert_eq!(ids(&agent.followed), ["a", "b", "c"]);
    assert!(agent.followed.rules().1 && agent.followed.take_changed());
    let collector = Collector::start(folder).await;
    eventually("the revocation is known", || {
        let rules = agent.followed.rules().0;
        rules.iter().any(|rule| rule.grant.revoked_at.is_some())
    })
    .await;
    agent.knows(&["a", "b", "c"]).await;
    collector.stop().await;
    // Another database in its place: only what that one has counts.
    fs::remove_file(folder.join("c.db")).unwrap();
    let collector = Collector::start(folder).await;
    collector.create("z").await;
    agent.knows(&["z"]).await;
    agent.stop().await;
    collector.stop().await;
}

#[tokio::test]
async fn a_damaged_copy_is_not_used_and_told_anew() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let collector = Collector::start(folder).await;
    collector.create("a").await;
    let agent = Agent::start(folder);
    agent.knows(&["a"]).await;
    agent.stop().await;
    let kept = folder.join("kept");
    let good = fs::read(&kept).unwrap();
    let last = good.len() - 1;
    for damage in 0..4 {
        let mut bytes = good.clone();
        match damage {
            0 => bytes[last] ^= 1,
            1 => bytes.truncate(last),
            2 => bytes.clear(),
            _ => bytes[0] ^= 1,
        }
        fs::write(&kept, bytes).unwrap();
        let follower = Followed::default();
        Follower::new(channel(folder), "host-1", &kept, follower.clone());
        assert_eq!(follower.rules(), (vec![], false), "damage {damage}");
    }
    let agent = Agent::start(folder);
    agent.knows(&["a"]).await;
    agent.stop().await;
    assert_eq!(fs::read(&kept).unwrap(), good);
    collector.stop().await;
}

#[test]
fn files_and_collector_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.json");
    let write = |users: &str| {
        let text =
            format!(r#"{{"request_id": "F", "approvers": ["b"], "unix_users": ["{users}"]}}"#);
        fs::write(&file, text).unwrap();
    };
    let tell = |followed: &Followed, ids: &[&str]| {
        let mut known = Known::default();
        let piece = WatchGrantsResponse {
            grants: ids.iter().map(|id| grant(id)).collect(),
            caught_up: true,
            ..WatchGrantsResponse::default()
        };
        known.take(piece, Timestamp::now());
        followed.set(&known);
    };
    write("carol");
    let followed = Followed::default();
    let mut sources = Sources::new(folder.path(), followed.clone());
    let users = |book: &auditty_grants::GrantBook| -> Vec<String> {
        let rules = book.rules().iter();
        rules.map(|rule| rule.unix_users.join(",")).collect()
    };
    assert_eq!(users(&sources.book()), ["carol"]);
    assert!(sources.refresh().is_none());
    tell(&followed, &["C", "F"]);
    // The collector's word counts where both have a request id.
    assert_eq!(users(&sources.refresh().unwrap()), ["alice", "alice"]);
    tell(&followed, &["C"]);
    assert_eq!(users(&sources.refresh().unwrap()), ["alice", "carol"]);
    fs::remove_file(&file).unwrap();
    assert_eq!(users(&sources.refresh().unwrap()), ["alice"]);
}

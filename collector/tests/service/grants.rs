//! Grants over a real server: created once, revoked once, followed by whoever
//! wants to know.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::time::Duration;

use crate::common::*;
use auditty_proto::v1::{
    self, audit_service_client::AuditServiceClient, grant_service_client::GrantServiceClient,
};
use prost_types::Timestamp;
use tonic::{Code, Status, Streaming, transport::Channel};

pub fn grant(request_id: &str) -> v1::AccessGrant {
    v1::AccessGrant {
        grant: Some(v1::Grant {
            request_id: request_id.into(),
            approvers: vec!["bob".into()],
            ..v1::Grant::default()
        }),
        unix_users: vec!["alice".into()],
        ..v1::AccessGrant::default()
    }
}

fn until(seconds: i64, mut grant: v1::AccessGrant) -> v1::AccessGrant {
    grant.grant.as_mut().unwrap().valid_until_time = Some(Timestamp { seconds, nanos: 0 });
    grant
}

pub fn ids(grants: &[v1::AccessGrant]) -> Vec<&str> {
    let grants = grants.iter().filter_map(|grant| grant.grant.as_ref());
    grants.map(|grant| grant.request_id.as_str()).collect()
}

pub struct Client(pub GrantServiceClient<Channel>);

impl Client {
    async fn of(collector: &Collector) -> Self {
        Self(GrantServiceClient::new(collector.channel().await))
    }

    pub async fn create(&mut self, grant: v1::AccessGrant) -> Result<v1::AccessGrant, Status> {
        let ask = v1::CreateGrantRequest { grant: Some(grant) };
        let answer = self.0.create_grant(ask).await?;
        Ok(answer.into_inner().grant.unwrap())
    }

    pub async fn revoke(&mut self, id: &str) -> Result<v1::AccessGrant, Status> {
        let ask = v1::RevokeGrantRequest {
            name: format!("grants/{id}"),
            reason: "done".into(),
            tenant: None,
        };
        let answer = self.0.revoke_grant(ask).await?;
        Ok(answer.into_inner().grant.unwrap())
    }

    pub async fn get(&mut self, id: &str, tenant: Option<&str>) -> Result<v1::AccessGrant, Status> {
        let ask = v1::GetGrantRequest {
            name: format!("grants/{id}"),
            tenant: tenant.map(str::to_owned),
        };
        let answer = self.0.get_grant(ask).await?;
        Ok(answer.into_inner().grant.unwrap())
    }

    pub async fn list(&mut self, in_force: bool, page_size: i32) -> Vec<v1::AccessGrant> {
        let mut grants = Vec::new();
        let mut page_token = String::new();
        loop {
            let ask = v1::ListGrantsRequest {
                page_size,
                page_token,
                in_force,
            };
            let answer = self.0.list_grants(ask).await.unwrap().into_inner();
            assert!(page_size == 0 || answer.grants.len() <= page_size as usize);
            grants.extend(answer.grants);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return grants;
            }
        }
    }

    pub async fn watch(
        &mut self,
        resume_token: &str,
        host_id: &str,
    ) -> Result<Streaming<v1::WatchGrantsResponse>, Status> {
        let ask = v1::WatchGrantsRequest {
            resume_token: resume_token.into(),
            host_id: host_id.into(),
        };
        Ok(self.0.watch_grants(ask).await?.into_inner())
    }
}

pub async fn piece(pieces: &mut Streaming<v1::WatchGrantsResponse>) -> v1::WatchGrantsResponse {
    let next = tokio::time::timeout(Duration::from_secs(10), pieces.message());
    next.await.unwrap().unwrap().unwrap()
}

on_both! {

async fn a_grant_is_created_once_and_revoked_once(database) {
    let collector = database.collector().await;
    let mut client = Client::of(&collector).await;
    let created = client.create(grant("R 1/ü")).await.unwrap();
    assert_eq!(created.name, "grants/R 1/ü");
    assert!(created.create_time.is_some() && created.creator.starts_with("uid:"));
    assert_eq!(client.create(grant("R 1/ü")).await.unwrap(), created);
    let mut other = grant("R 1/ü");
    other.unix_users = vec!["eve".into()];
    let refused = client.create(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);

    let revoked = client.revoke("R 1/ü").await.unwrap();
    assert_eq!((&*revoked.revoke_reason, &*revoked.revoker), ("done", &*created.creator));
    assert!(revoked.grant.as_ref().unwrap().revoked_time.is_some());
    assert!(revoked.revision > created.revision);
    assert_eq!(client.revoke("R 1/ü").await.unwrap(), revoked);
    // Created again, it is what it was, and stays revoked.
    assert_eq!(client.create(grant("R 1/ü")).await.unwrap(), revoked);
    assert_eq!(client.get("R 1/ü", None).await.unwrap(), revoked);
    // It is there after a restart.
    collector.stop().await;
    let again = database.collector().await;
    let mut client = Client::of(&again).await;
    assert_eq!(client.get("R 1/ü", None).await.unwrap(), revoked);
    let mut audit = AuditServiceClient::new(again.channel().await);
    let ask = v1::ListAuditRecordsRequest {
        filter: "method : GrantService".into(),
        ..Default::default()
    };
    let records = audit.list_audit_records(ask).await.unwrap().into_inner().records;
    assert_eq!(records.len(), 8, "{records:?}");
    assert!(records[7].request.contains("R 1/ü"), "{:?}", records[7]);
    again.stop().await;
}

async fn what_is_wrong_is_said(database) {
    let collector = database.collector().await;
    let mut client = Client::of(&collector).await;
    let mut nobody = grant("R");
    nobody.unix_users.clear();
    let mut unapproved = grant("R");
    unapproved.grant.as_mut().unwrap().approvers.clear();
    let mut key = grant("R");
    key.keys = vec!["ssh-ed25519 AAAA".into()];
    let mut large = grant("R");
    large.hosts = vec!["h".repeat(4000); 20];
    let mut backwards = until(1, grant("R"));
    backwards.grant.as_mut().unwrap().valid_from_time = Some(Timestamp { seconds: 2, nanos: 0 });
    let mut endless = until(i64::MAX, grant("R"));
    endless.grant.as_mut().unwrap().valid_from_time = None;
    for (wrong, word) in [
        (v1::AccessGrant::default(), "request_id"),
        (grant("a\nb"), "request_id"),
        (nobody, "unix_users"),
        (unapproved, "approvers"),
        (key, "`keys`"),
        (large, "bytes long"),
        (backwards, "valid_until"),
        (endless, "valid_until"),
    ] {
        let refused = client.create(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(word), "{word}: {refused}");
    }
    assert_eq!(client.revoke("none").await.unwrap_err().code(), Code::NotFound);
    for name in ["R", "grants/"] {
        let ask = v1::GetGrantRequest { name: name.into(), tenant: None };
        let refused = client.0.get_grant(ask).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    assert!(client.list(false, 0).await.is_empty());
    let ask = v1::ListGrantsRequest { page_token: "x".into(), ..Default::default() };
    let refused = client.0.list_grants(ask).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    collector.stop().await;
}

async fn lists_have_pages_and_know_what_is_in_force(database) {
    let collector = database.collector().await;
    let mut client = Client::of(&collector).await;
    for id in ["a", "b", "c", "d"] {
        client.create(grant(id)).await.unwrap();
    }
    client.create(until(1, grant("old"))).await.unwrap();
    client.revoke("b").await.unwrap();
    assert_eq!(ids(&client.list(false, 2).await), ["b", "old", "d", "c", "a"]);
    assert_eq!(ids(&client.list(true, 1).await), ["d", "c", "a"]);
    collector.stop().await;
}

async fn who_follows_is_told_everything_once(database) {
    let collector = database.collector().await;
    let mut client = Client::of(&collector).await;
    client.create(grant("a")).await.unwrap();
    client.create(until(1, grant("long over"))).await.unwrap();
    let mut pieces = client.watch("", "").await.unwrap();
    let first = piece(&mut pieces).await;
    assert!(first.reset && first.caught_up);
    assert_eq!(ids(&first.grants), ["a"]);
    client.create(grant("b")).await.unwrap();
    let second = piece(&mut pieces).await;
    assert_eq!(ids(&second.grants), ["b"]);
    assert!(!second.reset);
    client.revoke("a").await.unwrap();
    let last = piece(&mut pieces).await;
    assert!(last.grants[0].grant.as_ref().unwrap().revoked_time.is_some());
    // After a broken connection it goes on where it was.
    let mut again = client.watch(&first.resume_token, "").await.unwrap();
    let missed = piece(&mut again).await;
    assert_eq!(ids(&missed.grants), ["b", "a"]);
    assert!(!missed.reset && missed.caught_up);
    let mut nothing = client.watch(&last.resume_token, "").await.unwrap();
    let caught_up = piece(&mut nothing).await;
    assert!(caught_up.grants.is_empty() && caught_up.caught_up && !caught_up.reset);
    // A token of another database, or of this one's future, begins anew.
    let (generation, _) = last.resume_token.split_once('-').unwrap();
    for token in ["other-1", &format!("{generation}-99"), "nonsense"] {
        let mut anew = client.watch(token, "").await.unwrap();
        assert!(piece(&mut anew).await.reset, "{token}");
    }
    // Another collector over the same database makes changes, too.
    let other = database.collector().await;
    Client::of(&other).await.create(grant("c")).await.unwrap();
    assert_eq!(ids(&piece(&mut pieces).await.grants), ["c"]);
    other.stop().await;
    // The stream ends with the collector, and does not hold it up.
    collector.stop().await;
    while let Ok(Some(_)) = pieces.message().await {}
}

async fn what_was_revoked_long_ago_is_told_to_who_may_not_know(database) {
    let collector = database.collector().await;
    let mut client = Client::of(&collector).await;
    client.create(grant("kept")).await.unwrap();
    let known = piece(&mut client.watch("", "").await.unwrap()).await.resume_token;
    // Revoked years ago, by what is kept of it.
    let mut long_ago = grant("long ago");
    long_ago.grant.as_mut().unwrap().revoked_time = Some(Timestamp { seconds: 1, nanos: 0 });
    client.create(long_ago).await.unwrap();
    let missed = piece(&mut client.watch(&known, "").await.unwrap()).await;
    assert_eq!(ids(&missed.grants), ["long ago"]);
    let anew = piece(&mut client.watch("", "").await.unwrap()).await;
    assert_eq!(ids(&anew.grants), ["kept"]);
    collector.stop().await;
}

async fn many_at_once_stand_in_line(database) {
    let collector = database.collector().await;
    let creating = (0..20).map(|number| {
        let channel = collector.channel();
        async move {
            let mut client = Client(GrantServiceClient::new(channel.await));
            client.create(grant(&format!("r-{}", number / 2))).await.unwrap().revision
        }
    });
    let mut revisions = futures::future::join_all(creating).await;
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions, (1..=10).collect::<Vec<_>>());
    collector.stop().await;
}

}

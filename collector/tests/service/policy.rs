//! Every role with every method, and everybody who is nobody with every method.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{fs, path::Path};

use auditty_proto::{access::METHODS, v1::Role};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use crate::{
    access::{Authority, collector, with_tls},
    common::*,
};

pub const ROLES: [(Role, &str); 5] = [
    (Role::Agent, "agent"),
    (Role::Viewer, "viewer"),
    (Role::Auditor, "auditor"),
    (Role::GrantWriter, "grant-writer"),
    (Role::Admin, "admin"),
];

/// What the schemas say, a line for each method.
fn policy() -> String {
    let lines = METHODS.iter().map(|method| {
        let path = method.path.trim_start_matches("/auditty.v1.");
        let roles = ROLES.iter().filter(|(role, _)| method.roles.contains(role));
        let roles: Vec<_> = roles.map(|(_, name)| *name).collect();
        assert_eq!(
            roles.len(),
            method.roles.len(),
            "{path}: a role is not known here"
        );
        let recorded = match method.recorded {
            true => "",
            false => "; no audit record",
        };
        format!("{path}: {}{recorded}\n", roles.join(", "))
    });
    let mut lines: Vec<_> = lines.collect();
    lines.sort();
    lines.concat()
}

/// Who may do what changes on purpose only, and where everybody sees it.
#[test]
fn the_policy_is_the_one_that_was_agreed_on() {
    let agreed = include_str!("policy.txt");
    let found = policy();
    if found != agreed {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("policy.txt");
        fs::write(&new, &found).unwrap();
        panic!(
            "the schemas allow something else than collector/tests/service/policy.txt says. \
             To see the difference:\n\n    diff collector/tests/service/policy.txt {new}\n\n\
             If it is meant, copy the second file over the first. It is:\n\n{found}",
            new = new.display()
        );
    }
}

/// Calls a method with an empty message. A refusal comes instead of an answer;
/// what is allowed may go on.
async fn call(channel: &Channel, path: &'static str, token: Option<&str>) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(format!("transport: {error:?}")))?;
    let mut request = Request::new(());
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let codec = ProstCodec::<(), ()>::default();
    let path = PathAndQuery::from_static(path);
    client.server_streaming(request, path, codec).await?;
    Ok(())
}

#[tokio::test]
async fn every_role_may_call_its_methods_and_no_other() {
    let database = Database::sqlite();
    let authority = Authority::new();
    let collector = collector(&database, with_tls(authority.write(database.folder.path()))).await;
    // The file says it, not the table that the gate itself asks.
    let policy = include_str!("policy.txt");
    for (_, name) in ROLES {
        let identity = authority.client(&format!("spiffe://acme/auditty/{name}/x"));
        let channel = authority.connect(&collector, Some(identity)).await.unwrap();
        for method in METHODS {
            let called = call(&channel, method.path, None).await;
            let denied = called.err().is_some_and(|status| {
                status.code() == Code::PermissionDenied && status.message().contains("may not call")
            });
            let path = method.path.trim_start_matches("/auditty.v1.");
            let allowed = policy.lines().any(|line| {
                let (of, roles) = line.split_once(": ").unwrap();
                let roles = roles.split(';').next().unwrap();
                of == path && roles.split(", ").any(|role| role == name)
            });
            assert_eq!(denied, !allowed, "{name} {path}");
        }
    }
    collector.stop().await;
}

/// There was no answer at all.
fn is_cut(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown)
        && status.message().contains("transport")
}

/// Who shows what the collector does not even speak with.
async fn assert_cut(authority: &Authority, collector: &Collector, identity: &Identity, why: &str) {
    for method in METHODS {
        match authority.connect(collector, Some(identity.clone())).await {
            Ok(channel) => {
                let refused = call(&channel, method.path, None).await.unwrap_err();
                assert!(is_cut(&refused), "{}: {refused}", method.path);
            }
            Err(error) => assert!(format!("{error:?}").contains(why), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn who_is_nobody_may_do_nothing() {
    let database = Database::sqlite();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let collector = collector(&database, with_tls(authority.write(database.folder.path()))).await;
    let connect = async |id: &str| {
        let identity = authority.client(id);
        authority.connect(&collector, Some(identity)).await.unwrap()
    };
    let nobody = authority.connect(&collector, None).await.unwrap();
    let admin = connect("spiffe://acme/auditty/admin/x").await;
    let unknown_role = connect("spiffe://acme/auditty/root/x").await;
    let no_spiffe = connect("https://example.com/x").await;
    let forged = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.";
    for method in METHODS {
        for (channel, token, words) in [
            (&nobody, None, "is not known"),
            (&nobody, Some("wrong"), "not known"),
            (&nobody, Some(forged), ""),
            // A token wins over the connection.
            (&admin, Some("wrong"), "not known"),
            (&unknown_role, None, "SPIFFE"),
            (&no_spiffe, None, "SPIFFE"),
        ] {
            let refused = call(channel, method.path, token).await.unwrap_err();
            let path = method.path;
            assert_eq!(refused.code(), Code::Unauthenticated, "{path}: {refused}");
            assert!(refused.message().contains(words), "{path}: {refused}");
        }
    }
    let forged = stranger.client("spiffe://acme/auditty/admin/x");
    assert_cut(&authority, &collector, &forged, "UnknownCA").await;
    let expired = authority.expired_client("spiffe://acme/auditty/admin/x");
    assert_cut(&authority, &collector, &expired, "CertificateExpired").await;
    // Without TLS there is not even an answer.
    let plain = Endpoint::try_from(format!("http://{}", collector.address)).unwrap();
    let plain = plain.connect_lazy();
    for method in METHODS {
        let refused = call(&plain, method.path, None).await.unwrap_err();
        assert_ne!(refused.code(), Code::Unauthenticated, "{refused}");
        assert_ne!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    // Health is for everybody.
    call(&nobody, "/grpc.health.v1.Health/Check", None)
        .await
        .unwrap();
    collector.stop().await;
}

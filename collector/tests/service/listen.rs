//! Listening: private sockets, no surprises, clear refusals.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{fs, os::unix::fs::PermissionsExt, os::unix::net::UnixListener};

use crate::common::Collector;
use auditty_collector::{Listeners, Location, Store};

async fn refusal(address: &str) -> String {
    let address = address.parse().unwrap();
    Listeners::bind(&[address], false)
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn a_socket_is_private_and_replaces_only_a_dead_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.sock");
    let listen = format!("unix:{}", path.display());
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead server left its socket");
    let collector = Collector::start(&Location::Sqlite(folder.path().join("c.db")), &listen).await;
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    collector.channel().await;
    assert!(refusal(&listen).await.contains("another server answers"));
    collector.channel().await;
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        4,
        "socket, database, -wal, -shm"
    );
    collector.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn refusals_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "keep").unwrap();
    let unix = |path: &std::path::Path| format!("unix:{}", path.display());
    assert!(refusal(&unix(&file)).await.contains("not a socket"));
    assert_eq!(fs::read(&file).unwrap(), b"keep");
    assert!(
        refusal(&unix(&folder.path().join("no/s")))
            .await
            .contains("No such file")
    );
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let open = refusal(&unix(&folder.path().join("s"))).await;
    assert!(open.contains("others may write"), "{open}");
    assert!(
        refusal("0.0.0.0:0")
            .await
            .contains("allow_plaintext = true")
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(refusal(&address).await.contains("in use"));
    let everywhere = ["0.0.0.0:0".parse().unwrap()];
    assert!(Listeners::bind(&everywhere, true).await.is_ok());
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/c.db");
    let error = Store::open(&Location::Sqlite(missing.clone()))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no/c.db") && error.contains("No such file"),
        "{error}"
    );
    let other = folder.path().join("other");
    fs::write(
        &other,
        "this is no database, whatever it is called".repeat(50),
    )
    .unwrap();
    let error = Store::open(&Location::Sqlite(other.clone()))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("not a database"), "{error}");
    let fresh = folder.path().join("c.db");
    Store::open(&Location::Sqlite(fresh.clone()))
        .await
        .unwrap()
        .close()
        .await;
    assert_eq!(
        fs::metadata(&fresh).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

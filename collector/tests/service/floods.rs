//! Connections in masses, from somebody who wants nothing but to keep others out.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs},
};
use tonic::Code;

use crate::{
    access::{Authority, collector, list, with_tls},
    common::*,
};

/// Unfinished handshakes that a listener keeps.
const HANDSHAKES: usize = 512;
/// Longest handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of nobody that a listener keeps.
const UNKNOWN: usize = 1024;
/// Longest wait for what should be there soon.
const DEADLINE: Duration = Duration::from_secs(60);
/// An answer that comes in this time is one for people.
const PROMPT: Duration = Duration::from_secs(2);

/// Lets this program open many files; `false`, said loudly, where it may not.
fn many_files() -> bool {
    const WANTED: u64 = 8192;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft >= WANTED {
        return true;
    }
    let raised = hard >= WANTED && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    if !raised {
        skipped(&format!("no more than {hard} files may be open"));
    }
    raised
}

fn tcp(collector: &Collector) -> SocketAddr {
    collector.address.to_string().parse().unwrap()
}

/// From another address of this machine.
async fn silent(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Counts when the server has closed a connection.
fn watch(
    mut stream: impl AsyncReadExt + Unpin + Send + 'static,
    closed: &Arc<AtomicUsize>,
) -> JoinHandle<()> {
    let closed = Arc::clone(closed);
    tokio::spawn(async move {
        let mut bytes = [0; 256];
        while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
        closed.fetch_add(1, Ordering::Relaxed);
    })
}

async fn until(closed: &AtomicUsize, expected: usize) {
    let begin = Instant::now();
    while closed.load(Ordering::Relaxed) < expected {
        let found = closed.load(Ordering::Relaxed);
        assert!(
            begin.elapsed() < DEADLINE,
            "{found} of {expected} are closed"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_keep_nobody_out() {
    if !many_files() {
        return;
    }
    let database = Database::sqlite();
    let authority = Authority::new();
    let collector = collector(&database, with_tls(authority.write(database.folder.path()))).await;
    let address = tcp(&collector);
    let closed = Arc::new(AtomicUsize::new(0));
    let mut flood = Vec::new();
    let (begin, more) = (Instant::now(), 300);
    for _ in 0..HANDSHAKES + more {
        flood.push(watch(silent(address).await, &closed));
    }
    // The oldest of them made room: none has lasted too long yet.
    until(&closed, more).await;
    assert!(begin.elapsed() < HANDSHAKE_TIMEOUT);
    let begin = Instant::now();
    for round in 0..5 {
        // A second's part of a flood that goes on.
        for _ in 0..60 {
            flood.push(watch(silent(address).await, &closed));
        }
        let asked = Instant::now();
        let good = authority.client("spiffe://acme/auditty/viewer/x");
        let good = authority.connect(&collector, Some(good)).await.unwrap();
        list(good).await.unwrap();
        let took = asked.elapsed();
        assert!(took < PROMPT, "round {round}: {took:?}");
        let second = Duration::from_secs(round + 1);
        tokio::time::sleep(second.saturating_sub(begin.elapsed())).await;
    }
    // The bound holds all the while.
    until(&closed, flood.len() - HANDSHAKES).await;
    for task in flood {
        task.abort();
    }
    collector.stop().await;
}

/// A client that shows no certificate.
fn connector(authority: &Authority) -> TlsConnector {
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_nobody_are_bounded_and_take_no_slot_of_others() {
    if !many_files() {
        return;
    }
    let database = Database::sqlite();
    let authority = Authority::new();
    let collector = collector(&database, with_tls(authority.write(database.folder.path()))).await;
    let (address, connector) = (tcp(&collector), connector(&authority));
    let name = ServerName::try_from("localhost").unwrap();
    let closed = Arc::new(AtomicUsize::new(0));
    let mut idle = Vec::new();
    let more = 20;
    for _ in 0..UNKNOWN + more {
        let tcp = TcpStream::connect(address).await.unwrap();
        // One that is refused may notice already here.
        match connector.connect(name.clone(), tcp).await {
            Ok(stream) => idle.push(watch(stream, &closed)),
            Err(_) => {
                closed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    // One address gets half, and leaves room for another.
    let refused = UNKNOWN / 2 + more;
    until(&closed, refused).await;
    let other = silent(address).await;
    let other = connector.connect(name.clone(), other).await.unwrap();
    idle.push(watch(other, &closed));
    let good = authority.client("spiffe://acme/auditty/viewer/x");
    let good = authority.connect(&collector, Some(good)).await.unwrap();
    list(good).await.unwrap();
    assert_eq!(closed.load(Ordering::Relaxed), refused, "the others stay");
    // Who leaves makes room for the next.
    let left = idle.iter().find(|task| !task.is_finished()).unwrap();
    left.abort();
    let begin = Instant::now();
    loop {
        let answer = match authority.connect(&collector, None).await {
            Ok(channel) => list(channel).await.unwrap_err().code(),
            Err(_) => Code::Unavailable,
        };
        if answer == Code::Unauthenticated {
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for task in idle {
        task.abort();
    }
    collector.stop().await;
}

//! Accepted connections, with what each proves about its other end. Nothing that
//! one connection does keeps the next from being accepted.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use nix::libc;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tonic::transport::server::Connected;

use super::{
    Peer, Principal, Tls, certificate,
    handshakes::{self, Handshakes},
    local,
    tally::Tally,
};
use crate::listen::Listener;

/// Longest handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of callers with a certificate, or of the machine's own users.
const KNOWN: usize = 16_384;
/// Connections of all others: those with tokens, and those with nothing. Who has as
/// many as are free gets no more: one alone gets half, and the next finds room.
const UNKNOWN: usize = 1024;
/// Pause after a failed accept, such as no free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocols {
    /// gRPC: HTTP/2.
    Grpc,
    /// HTTP/1.1 as well.
    Http,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that was accepted, and handshaken where there is TLS.
pub(crate) struct Connection {
    io: Box<dyn Io>,
    peer: Arc<Peer>,
    _slot: OwnedSemaphorePermit,
    _place: Option<Arc<()>>,
}

/// The connections of a listener, as they are ready.
pub(crate) fn incoming(
    listener: &Listener,
    tls: Option<Arc<Tls>>,
    protocols: Protocols,
) -> impl Stream<Item = io::Result<Connection>> {
    let incoming = Incoming {
        listener,
        tls,
        protocols,
        handshakes: Handshakes::default(),
        slots: Slots::new(KNOWN, UNKNOWN),
        not_before: Instant::now(),
        failed: Tally::default(),
    };
    stream::unfold(incoming, |mut incoming| async move {
        let connection = incoming.next().await;
        Some((Ok(connection), incoming))
    })
}

/// What a handshake ended with; nothing where it failed.
type Ended = Option<(Box<dyn Io>, Peer)>;

struct Incoming<'a> {
    listener: &'a Listener,
    tls: Option<Arc<Tls>>,
    protocols: Protocols,
    handshakes: Handshakes<Ended>,
    slots: Slots,
    /// Nothing is accepted before.
    not_before: Instant,
    failed: Tally,
}

impl Incoming<'_> {
    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                accepted = accept(self.listener, self.not_before) => match accepted {
                    Ok(Accepted::Unix(unix)) => {
                        if let Some(connection) = self.slots.take(on_unix(unix)) {
                            return connection;
                        }
                    }
                    Ok(Accepted::Tcp(tcp, address)) => self.begin(tcp, address),
                    Err(error) => self.pause(&error),
                },
                Some(ended) = self.handshakes.next() => {
                    if let Some(connection) = ended.and_then(|ended| self.slots.take(ended)) {
                        return connection;
                    }
                }
            }
        }
    }

    fn begin(&mut self, tcp: TcpStream, address: SocketAddr) {
        let (tls, protocols) = (self.tls.clone(), self.protocols);
        let handshake = async move { on_tcp(tcp, address, tls.as_deref(), protocols).await };
        self.handshakes.begin(address.ip(), handshake);
    }

    /// After a failed accept. Where no file can be opened any more, the one of a
    /// handshake becomes free.
    fn pause(&mut self, error: &io::Error) {
        if let Some(count) = self.failed.add(std::time::Instant::now()) {
            tracing::warn!(count, "connections were not accepted: {error}");
        }
        if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
            self.handshakes.drop_one();
        }
        self.not_before = Instant::now() + ACCEPT_PAUSE;
    }
}

/// How many connections may be open.
struct Slots {
    known: Arc<Semaphore>,
    unknown: Arc<Semaphore>,
    /// By whose they are: held by each connection of somebody unknown.
    places: HashMap<String, Arc<()>>,
    closed: Tally,
}

impl Slots {
    fn new(known: usize, unknown: usize) -> Self {
        Self {
            known: Arc::new(Semaphore::new(known)),
            unknown: Arc::new(Semaphore::new(unknown)),
            places: HashMap::new(),
            closed: Tally::default(),
        }
    }

    /// The connection, if there is a slot for its like; it is closed otherwise.
    fn take(&mut self, (io, peer): (Box<dyn Io>, Peer)) -> Option<Connection> {
        let slot = match peer.principal {
            Some(_) => self.known().map(|slot| (slot, None)),
            None => self.unknown(&peer).map(|(slot, place)| (slot, Some(place))),
        };
        let Some((slot, place)) = slot else {
            if let Some(count) = self.closed.add(std::time::Instant::now()) {
                let peer = peer.address;
                tracing::warn!(peer, count, "too many connections: new ones are closed");
            }
            return None;
        };
        Some(Connection {
            io,
            peer: Arc::new(peer),
            _slot: slot,
            _place: place,
        })
    }

    fn known(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.known).try_acquire_owned().ok()
    }

    fn unknown(&mut self, peer: &Peer) -> Option<(OwnedSemaphorePermit, Arc<()>)> {
        let free = self.unknown.available_permits();
        let whose = match peer.ip {
            Some(address) => handshakes::source(address.ip()).to_string(),
            None => peer.address.clone(),
        };
        self.places.retain(|_, place| Arc::strong_count(place) > 1);
        let place = self.places.entry(whose).or_default();
        let has = Arc::strong_count(place) - 1;
        if has >= free {
            return None;
        }
        let slot = Arc::clone(&self.unknown).try_acquire_owned().ok()?;
        Some((slot, Arc::clone(place)))
    }
}

enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr),
}

async fn accept(listener: &Listener, not_before: Instant) -> io::Result<Accepted> {
    if not_before > Instant::now() {
        tokio::time::sleep_until(not_before).await;
    }
    match listener {
        Listener::Unix { listener, .. } => {
            let accepted = listener.accept().await;
            accepted.map(|(unix, _)| Accepted::Unix(unix))
        }
        Listener::Tcp(tcp) => {
            let accepted = tcp.accept().await;
            accepted.map(|(tcp, address)| Accepted::Tcp(tcp, address))
        }
    }
}

fn on_unix(unix: UnixStream) -> (Box<dyn Io>, Peer) {
    let uid = unix.peer_cred().map(|credentials| credentials.uid()).ok();
    let peer = Peer {
        address: format!(
            "unix:uid={}",
            uid.map_or("?".to_owned(), |uid| uid.to_string())
        ),
        ip: None,
        principal: uid.and_then(own),
        problem: None,
    };
    (Box::new(unix), peer)
}

/// `None` for a handshake that failed.
async fn on_tcp(
    tcp: TcpStream,
    address: SocketAddr,
    tls: Option<&Tls>,
    protocols: Protocols,
) -> Option<(Box<dyn Io>, Peer)> {
    let _ = tcp.set_nodelay(true);
    let mut peer = Peer {
        address: address.to_string(),
        ip: Some(address),
        principal: None,
        problem: None,
    };
    let Some(tls) = tls else {
        if address.ip().is_loopback() {
            let uid = tcp
                .local_addr()
                .ok()
                .and_then(|here| local::uid(address, here));
            peer.principal = uid.and_then(own);
        }
        return Some((Box::new(tcp), peer));
    };
    let mut config = tls.config();
    if protocols == Protocols::Http {
        let mut own = ServerConfig::clone(&config);
        own.alpn_protocols.push(b"http/1.1".to_vec());
        config = Arc::new(own);
    }
    let handshake = TlsAcceptor::from(config).accept(tcp);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(peer = peer.address, "a TLS handshake failed: {error}");
            return None;
        }
        Err(_) => return None,
    };
    let certificates = stream.get_ref().1.peer_certificates();
    match certificates
        .and_then(<[_]>::first)
        .map(|der| certificate::principal(der))
    {
        Some(Ok(principal)) => peer.principal = Some(principal),
        Some(Err(problem)) => peer.problem = Some(problem),
        None => {}
    }
    Some((Box::new(stream), peer))
}

/// Root and the collector's own user may do everything: they can read the
/// database as well.
fn own(uid: u32) -> Option<Principal> {
    (uid == 0 || uid == nix::unistd::geteuid().as_raw()).then(|| Principal::local(uid))
}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        Arc::clone(&self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(slots: &mut Slots, principal: Option<Principal>) -> Option<Connection> {
        take_from(slots, "192.0.2.1:1", principal)
    }

    fn take_from(
        slots: &mut Slots,
        address: &str,
        principal: Option<Principal>,
    ) -> Option<Connection> {
        let (io, _) = tokio::io::duplex(1);
        let peer = Peer {
            address: address.to_owned(),
            ip: Some(address.parse().unwrap()),
            principal,
            problem: None,
        };
        slots.take((Box::new(io), peer))
    }

    #[test]
    fn who_takes_what_there_is_leaves_room_for_the_next() {
        let mut slots = Slots::new(0, 8);
        let mut open = |address: &str, count: usize| -> Vec<_> {
            let taken = (0..count).map(|_| take_from(&mut slots, address, None));
            taken.flatten().collect()
        };
        let flood = open("192.0.2.66:1", 100);
        assert_eq!(flood.len(), 4);
        // Another port is the same address.
        assert!(open("192.0.2.66:2", 1).is_empty());
        let other = open("192.0.2.2:1", 2);
        assert_eq!(other.len(), 2);
        let third = open("[2001:db8::1]:1", 100);
        assert_eq!(third.len(), 1);
        drop((flood, other));
        assert_eq!(open("192.0.2.66:3", 100).len(), 4);
        assert_eq!(slots.places.len(), 2, "who is gone is forgotten");
    }

    #[test]
    fn who_is_unknown_takes_no_slot_of_who_is_known() {
        let mut slots = Slots::new(2, 1);
        let unknown = take(&mut slots, None);
        assert!(unknown.is_some());
        assert!(take(&mut slots, None).is_none());
        let known = || Some(Principal::local(0));
        let first = take(&mut slots, known());
        let second = take(&mut slots, known());
        assert!(first.is_some() && second.is_some());
        assert!(take(&mut slots, known()).is_none());
        // A connection that ends makes room for the next.
        drop(first);
        assert!(take(&mut slots, None).is_none());
        assert!(take(&mut slots, known()).is_some());
        drop(unknown);
        assert!(take(&mut slots, None).is_some());
    }
}

//! Accepted connections, with what each proves about its other end.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tonic::transport::server::Connected;

use super::{Peer, Principal, Tls, certificate, local};
use crate::listen::Listener;

/// TLS handshakes under way on one listener; further connections wait.
const HANDSHAKES: usize = 256;
/// Longest handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of callers with a certificate, or of the machine's own users.
const KNOWN: usize = 16_384;
/// Connections of all others: those with tokens, and those with nothing.
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
}

/// The connections of a listener, as they are ready.
pub(crate) fn incoming(
    listener: &Listener,
    tls: Option<Arc<Tls>>,
    protocols: Protocols,
) -> impl Stream<Item = io::Result<Connection>> {
    let known = Arc::new(Semaphore::new(KNOWN));
    let unknown = Arc::new(Semaphore::new(UNKNOWN));
    stream::repeat(())
        .then(move |()| accept(listener))
        .map(move |accepted| {
            let (tls, known, unknown) = (tls.clone(), known.clone(), unknown.clone());
            async move {
                let (io, peer) = match accepted {
                    Accepted::Unix(unix) => on_unix(unix),
                    Accepted::Tcp(tcp, address) => {
                        on_tcp(tcp, address, tls.as_deref(), protocols).await?
                    }
                };
                let slots = match peer.principal {
                    Some(_) => known,
                    None => unknown,
                };
                let Ok(slot) = slots.try_acquire_owned() else {
                    tracing::warn!(
                        peer = peer.address,
                        "too many connections: this one is closed"
                    );
                    return None;
                };
                Some(Ok(Connection {
                    io,
                    peer: Arc::new(peer),
                    _slot: slot,
                }))
            }
        })
        .buffer_unordered(HANDSHAKES)
        .filter_map(async |connection| connection)
}

enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr),
}

async fn accept(listener: &Listener) -> Accepted {
    loop {
        let accepted = match listener {
            Listener::Unix { listener, .. } => listener
                .accept()
                .await
                .map(|(unix, _)| Accepted::Unix(unix)),
            Listener::Tcp(tcp) => {
                let accepted = tcp.accept().await;
                accepted.map(|(tcp, address)| Accepted::Tcp(tcp, address))
            }
        };
        match accepted {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
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

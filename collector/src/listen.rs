//! Where the services listen: Unix sockets, which only their owner may use, and
//! TCP addresses.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use tokio::net::{TcpListener, UnixListener};

/// Set with the sticky bit, a folder anyone may write to is still safe.
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;

/// Where to listen: `unix:/path` or `address:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A Unix socket, mode 0600.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(path) => Err(format!("the socket path {path:?} must be absolute")),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("{text:?} is neither unix:/absolute/path nor an address such as 127.0.0.1:7443 or [::1]:7443")
            }),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(formatter),
        }
    }
}

/// Why it cannot listen there.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct ListenError {
    /// Where.
    pub address: ListenAddress,
    /// Why.
    pub reason: String,
}

/// A Unix socket's file, removed with its listener.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have put its own in the place by now.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| inode(&file) == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// One bound address.
#[derive(Debug)]
pub(crate) enum Listener {
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
    Tcp(TcpListener),
}

/// Bound addresses: clients can connect from now on and wait for an answer.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) bound: Vec<(ListenAddress, Listener)>,
}

impl Listeners {
    /// Binds all addresses or none. TCP beyond the machine itself needs
    /// `may_be_reached`: TLS will be on it, or its lack is accepted.
    pub async fn bind(
        addresses: &[ListenAddress],
        may_be_reached: bool,
    ) -> Result<Self, ListenError> {
        let mut bound = Vec::with_capacity(addresses.len());
        for address in addresses {
            let listener = match address {
                ListenAddress::Unix(path) => bind_unix(path).await,
                ListenAddress::Tcp(tcp) => bind_tcp(*tcp, may_be_reached).await,
            };
            let listener = listener.map_err(|reason| ListenError {
                address: address.clone(),
                reason,
            })?;
            // The port is chosen now where 0 was asked for.
            let address = match &listener {
                Listener::Tcp(tcp) => tcp.local_addr().map_or(address.clone(), ListenAddress::Tcp),
                Listener::Unix { .. } => address.clone(),
            };
            bound.push((address, listener));
        }
        Ok(Self { bound })
    }

    /// The addresses, with real ports.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.bound.iter().map(|(address, _)| address)
    }
}

async fn bind_tcp(address: SocketAddr, may_be_reached: bool) -> Result<Listener, String> {
    if !address.ip().is_loopback() && !may_be_reached {
        return Err(
            "other machines could reach it without encryption; configure [tls], listen on a \
             loopback address or a Unix socket, or set `allow_plaintext = true` where the network \
             itself is trusted"
                .to_owned(),
        );
    }
    let listener = TcpListener::bind(address).await;
    listener
        .map(Listener::Tcp)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => "the address is in use by another program".to_owned(),
            _ => error.to_string(),
        })
}

/// The socket is bound in a private folder beside its place, made private
/// itself, and moved there: nobody else can connect at any moment.
async fn bind_unix(path: &Path) -> Result<Listener, String> {
    check_folder(path)?;
    make_way(path).await?;
    let folder = path.with_extension(format!("new-{}", std::process::id()));
    let made = fs::DirBuilder::new().mode(0o700).create(&folder);
    made.map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let bound = bind_in(&folder, path);
    let _ = fs::remove_dir_all(&folder);
    bound.map_err(|error| error.to_string())
}

fn bind_in(folder: &Path, path: &Path) -> io::Result<Listener> {
    let new = folder.join("s");
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    let inode = inode(&fs::symlink_metadata(&new)?);
    fs::rename(&new, path)?;
    let path = path.to_owned();
    Ok(Listener::Unix {
        listener,
        _file: SocketFile { path, inode },
    })
}

fn inode(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Whoever can write to the folder can put another socket in the place.
fn check_folder(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let shown = folder.display();
    let found = fs::metadata(folder).map_err(|error| format!("the folder {shown}: {error}"))?;
    let uid = nix::unistd::geteuid().as_raw();
    if !found.is_dir() {
        return Err(format!("{shown} is not a folder"));
    }
    if found.uid() != uid && found.uid() != 0 {
        return Err(format!(
            "the folder {shown} belongs to another user, {}",
            found.uid()
        ));
    }
    if found.mode() & OTHERS_WRITE != 0 && found.mode() & STICKY == 0 {
        return Err(format!(
            "others may write to the folder {shown}; chmod go-w it"
        ));
    }
    Ok(())
}

/// Leaves a socket that answers and everything that is no socket alone; one
/// that a dead server left behind will be replaced.
async fn make_way(path: &Path) -> Result<(), String> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !file.file_type().is_socket() {
        return Err("there is a file in the place, and it is not a socket".to_owned());
    }
    match tokio::net::UnixStream::connect(path).await {
        Ok(_) => Err("another server answers there".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(format!("there is a socket in the place: {error}")),
    }
}

//! The embedded collector: the same service as the one that runs alone.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use auditty_collector::alerts::Alarm;
use auditty_collector::{
    Access, Countersigner, ListenAddress, Listeners, Location, ServeError, Store,
    countersign::default_key, serve,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Address, Collector};

/// A collector that runs inside the agent.
pub(super) struct EmbeddedCollector {
    store: Store,
    shutdown: CancellationToken,
    service: JoinHandle<Result<(), ServeError>>,
}

/// Starts the embedded collector, where that is what is wanted, and says where
/// to report. Its sockets are bound when this returns: a client that connects
/// gets its answer.
pub(super) async fn start(config: &Collector) -> Result<(Option<EmbeddedCollector>, Address)> {
    let (listen, database, alerts) = match config {
        Collector::Remote(address) => return Ok((None, address.clone())),
        Collector::Embedded {
            listen,
            database,
            alerts,
        } => (listen, database, alerts),
    };
    let access = Access {
        alarm: Alarm::load(alerts)?,
        ..Access::default()
    };
    create_parent(database)?;
    let mut addresses = Vec::new();
    for address in listen {
        addresses.push(match address {
            Address::Unix(path) => {
                create_parent(path)?;
                ListenAddress::Unix(path.clone())
            }
            Address::Tcp(address) => ListenAddress::Tcp(*address),
            Address::Http(url) | Address::Https(url, _) => {
                anyhow::bail!("{url} is no address to listen on")
            }
        });
    }
    let database = Location::Sqlite(database.clone());
    let signer = Countersigner::open(&default_key(&database))?;
    let store = Store::open(&database).await?;
    let listeners = Listeners::bind(&addresses, false).await?;
    let address = match listeners.addresses().next() {
        Some(ListenAddress::Unix(path)) => Address::Unix(path.clone()),
        Some(ListenAddress::Tcp(address)) => Address::Tcp(*address),
        None => anyhow::bail!("collector.listen names no address"),
    };
    let shutdown = CancellationToken::new();
    let service = tokio::spawn(serve(
        listeners,
        store.clone(),
        signer,
        access,
        shutdown.clone(),
    ));
    Ok((
        Some(EmbeddedCollector {
            store,
            shutdown,
            service,
        }),
        address,
    ))
}

impl EmbeddedCollector {
    /// Lets requests in work finish, and closes the database.
    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        match self.service.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the embedded collector failed"),
            Err(error) => tracing::error!(%error, "the embedded collector died"),
        }
        self.store.close().await;
    }
}

fn create_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("creating {}", folder.display()))
}

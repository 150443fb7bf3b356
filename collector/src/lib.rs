//! The collector: takes in what agents report, keeps the metadata, answers what
//! security teams ask. Content of recordings never comes here.
//!
//! The same code runs alone (`auditty-collector`) and inside the agent:
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use auditty_collector::{Access, Countersigner, Listeners, Store, serve};
//! use tokio_util::sync::CancellationToken;
//!
//! let store = Store::open(&"/var/lib/auditty-collector/collector.db".parse()?).await?;
//! let listeners = Listeners::bind(&["unix:/run/auditty-collector/collector.sock".parse()?], false).await?;
//! let shutdown = CancellationToken::new();
//! let signer = Countersigner::open("/var/lib/auditty-collector/collector.key".as_ref())?;
//! // Until `shutdown` is cancelled:
//! serve(listeners, store.clone(), signer, Access::default(), shutdown).await?;
//! store.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! Every request goes through the gate of [`access`]: who sends it, and may they.
//! The way of a report: [`ingest`] checks a whole batch, [`store`] puts it into
//! one transaction, and the answer goes out after the commit. The way of a
//! question: [`query`] reads the filter, [`store`] turns it into SQL with bound
//! values. What somebody should look at becomes one of the [`alerts`]. [`grants`]
//! keeps what is approved and tells the agents; [`webhook`] takes it from platforms
//! without gRPC.
#![forbid(unsafe_code)]

pub mod access;
pub mod alerts;
pub mod audit;
pub mod config;
pub mod countersign;
pub mod coverage;
pub mod evidence;
mod following;
pub mod grants;
pub mod hearing;
pub mod hosts;
pub mod ingest;
mod latest;
pub mod listen;
pub mod logins;
pub mod query;
pub mod server;
pub mod store;
mod tailing;
pub mod webhook;

pub use countersign::Countersigner;
pub use listen::{ListenAddress, ListenError, Listeners};
pub use server::{Access, ServeError, serve};
pub use store::{Location, Store, StoreError};

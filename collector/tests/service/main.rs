//! The collector as its callers see it.
//!
//! One program: each would compile the service once more, and start a database
//! server of its own.

#[macro_use]
mod common;

mod access;
mod alerts;
mod audit;
mod coverage;
mod evidence;
mod failed_logins;
mod floods;
mod following;
mod grants;
mod hosts;
mod http2;
mod ingest;
mod listen;
mod load;
mod policy;
mod query;
mod search;
mod silence;
mod tailing;
mod tenants;
mod webhook;

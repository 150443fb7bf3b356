//! `auditty keys`, as it is typed.

use clap::{Args, Subcommand};

/// `auditty keys`.
#[derive(Args, Debug)]
pub struct Keys {
    /// What to do with them.
    #[command(subcommand)]
    pub verb: KeysVerb,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Print them as an OpenSSH `allowed_signers` file (times are UTC: use it
    /// with TZ=UTC)
    Export {
        /// Only this host, by its host id
        #[arg(long, value_name = "HOST_ID")]
        host: Option<String>,
    },
    /// Print the key that the collector signs receipts with, as a line of an
    /// `allowed_signers` file
    Collector,
    /// The keys that hosts have registered with the collector
    List {
        /// Of this host only
        #[arg(long, value_name = "HOST_ID")]
        host: Option<String>,
    },
    /// Accept a key that none of the host's keys certifies, with those that
    /// follow it: of a host that was set up again
    Accept {
        /// The host
        host: String,
        /// Fingerprint of the key, as `keys list` prints it
        fingerprint: String,
    },
}

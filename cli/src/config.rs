//! What the options mean, together with the environment.

use std::io::IsTerminal;
use std::path::PathBuf;

use auditty_recording::encryption::Identities;
use auditty_recording::store::{S3Options, StoreConfig, StoreUrl};

use crate::args::{Color, Global, Output};
use crate::failure::{Failure, Result};
use crate::identities;
use crate::moment::Zone;

/// Where the collector embedded in this host's agent listens.
const DEFAULT_COLLECTOR: &str = "unix:/run/auditty/collector.sock";

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A collector's address.
    Collector(String),
    /// A store alone.
    Store(StoreUrl),
}

/// Who asks a collector.
#[derive(Clone, Default)]
pub struct Identity {
    /// Authorities of its certificate.
    pub ca: Option<PathBuf>,
    /// Own certificate and private key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Bearer token.
    pub token: Option<String>,
    /// What it asks for: the verb.
    pub purpose: String,
}

/// The token stays out of every message.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The options of every verb, understood.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who is asked.
    pub place: Place,
    /// Who asks a collector.
    pub identity: Identity,
    /// A collector to compare with, beside the store that is asked.
    pub beside: Option<String>,
    /// What encrypted recordings are read with.
    pub keys: Identities,
    /// How S3 is reached, for stores of either mode.
    pub s3: S3Options,
    /// JSON instead of tables.
    pub json: bool,
    /// Comma-separated values instead of tables.
    pub csv: bool,
    /// Whether the standard output takes colour.
    pub colour: bool,
    /// Zone of times.
    pub zone: Zone,
}

impl Config {
    /// Reads the options of a verb, with the environment given by `var`.
    ///
    /// # Errors
    /// A store address that is none.
    pub fn new(global: &Global, verb: &str, var: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let place = place(global, &set)?;
        Ok(Self {
            identity: Identity {
                ca: global.ca.clone(),
                certificate: global.cert.clone().zip(global.key.clone()),
                token: global.token.as_deref().map(token).transpose()?,
                purpose: verb.to_owned(),
            },
            beside: match &place {
                Place::Collector(address) => Some(address.clone()),
                Place::Store(_) => global.collector.clone(),
            },
            place,
            keys: identities::load(&global.identity)?,
            s3: S3Options {
                endpoint_url: global.s3_endpoint_url.clone(),
                region: global.s3_region.clone(),
                path_style: global.s3_path_style,
                ..S3Options::default()
            },
            json: global.output == Output::Json,
            csv: global.output == Output::Csv,
            colour: match global.color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => set("NO_COLOR").is_none() && std::io::stdout().is_terminal(),
            },
            zone: Zone::new(global.utc),
        })
    }

    /// How to open a store at `url`.
    pub fn store(&self, url: StoreUrl) -> StoreConfig {
        StoreConfig {
            url,
            s3: self.s3.clone(),
        }
    }
}

fn place(global: &Global, set: &impl Fn(&str) -> Option<String>) -> Result<Place> {
    if let Some(url) = &global.store {
        return store(url);
    }
    if let Some(address) = &global.collector {
        return Ok(Place::Collector(address.clone()));
    }
    if let Some(url) = set("AUDITTY_STORE") {
        return store(&url);
    }
    let address = set("AUDITTY_COLLECTOR");
    Ok(Place::Collector(
        address.unwrap_or_else(|| DEFAULT_COLLECTOR.to_owned()),
    ))
}

fn token(text: &str) -> Result<String> {
    match text.strip_prefix('@') {
        None => Ok(text.to_owned()),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(token) => Ok(token.trim().to_owned()),
            Err(error) => Err(Failure::usage(format!("--token: {path}: {error}"))),
        },
    }
}

fn store(url: &str) -> Result<Place> {
    url.parse().map(Place::Store).map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Config, Place};
    use crate::args::Cli;

    fn place(options: &[&str], environment: &[(&str, &str)]) -> Place {
        let cli = Cli::parse_from(["auditty"].iter().chain(options).chain(&["show", "abcd"]));
        let var = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Config::new(&cli.global, "show", var).unwrap().place
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_the_store_over_the_collector() {
        let collector = |address: &str| Place::Collector(address.to_owned());
        let store = |path: &str| Place::Store(path.parse().unwrap());
        let both = [
            ("AUDITTY_STORE", "/env"),
            ("AUDITTY_COLLECTOR", "http://env"),
        ];
        assert_eq!(
            place(&[], &[]),
            collector("unix:/run/auditty/collector.sock")
        );
        assert_eq!(place(&[], &both), store("/env"));
        assert_eq!(place(&[], &both[1..]), collector("http://env"));
        assert_eq!(
            place(&["--collector", "http://x"], &both),
            collector("http://x")
        );
        assert_eq!(
            place(&["--collector", "http://x", "--store", "/x"], &both),
            store("/x")
        );
        assert_eq!(place(&[], &[("AUDITTY_STORE", "")]), place(&[], &[]));
    }
}

//! Configuration of the stand-alone collector: a TOML file, then flags.
//!
//! ```toml
//! # Where to listen. TCP beyond this machine needs allow_plaintext.
//! listen = ["unix:/run/auditty-collector/collector.sock", "127.0.0.1:7443"]
//! # The database: a file of SQLite's, created where there is none, or a server:
//! # "postgres://auditty@db.internal/auditty?sslmode=verify-full", with the
//! # password in the variable PGPASSWORD or in ~/.pgpass.
//! database = "/var/lib/auditty-collector/collector.db"
//! # The key that signs receipts for chain heads, an OpenSSH Ed25519 key file;
//! # made where there is none. Without this line it stands beside the database.
//! signing_key = "/var/lib/auditty-collector/collector.key"
//! # Serve other machines over TCP without encryption: only callers with a token
//! # are served there.
//! allow_plaintext = false
//! # Sessions of a host that was not heard of for so long are closed, with the
//! # end reason `host_silent`, until it is back.
//! silent_after_seconds = 600
//!
//! # TLS on all TCP addresses. The files are read again when they change.
//! [tls]
//! certificate = "/etc/auditty/tls/collector.pem"
//! key = "/etc/auditty/tls/collector.key"
//! # Authorities of client certificates, which say who the client is by their
//! # SPIFFE id: spiffe://TENANT/auditty/ROLE/NAME. For agents NAME is the host id.
//! client_ca = "/etc/auditty/tls/clients.pem"
//! client_crl = "/etc/auditty/tls/revoked.pem"
//!
//! # People with tokens of an identity provider.
//! [oidc]
//! issuer = "https://idp.example.com"
//! audience = "auditty"
//! jwks = "https://idp.example.com/keys"   # or a file
//! name_claim = "email"
//! roles_claim = "groups"
//! tenant = "*"                            # all; or tenant_claim = "org"
//! [oidc.roles]                            # value of the claim = role
//! security = "auditor"
//!
//! # Tokens handed out by hand; `printf %s TOKEN | sha256sum`.
//! [[api_tokens]]
//! name = "access-platform"
//! roles = ["grant-writer"]
//! tenant = "acme"
//! sha256 = "…"
//!
//! # Where access platforms push grants as JSON, POST /v1/grants: with tokens or
//! # client certificates as above, or signed with a shared secret.
//! [webhook]
//! listen = ["0.0.0.0:7444"]
//! [[webhook.secrets]]
//! name = "access-platform"
//! tenant = "acme"
//! file = "/etc/auditty/webhook.secret"
//!
//! # For each caller.
//! [limits]
//! requests_per_second = 100
//! burst = 500
//!
//! # What is an alert beside what always is, and where alerts go.
//! [alerts]
//! host_silent_after_seconds = 18
//! [[alerts.rules]]                        # commands, as for ListCommands
//! name = "shadow"
//! filter = "command_line : '/etc/shadow'"
//! pattern = '\bshadow-?$'                 # a regular expression; one may be missing
//! [[alerts.webhooks]]
//! name = "soc"
//! url = "https://soc.example.com/auditty"
//! secret = "/etc/auditty/soc.secret"      # signs, as the webhook for grants
//! ca = "/etc/auditty/soc-ca.pem"
//! filter = "kind != host_changed"         # as for ListAlerts
//! [alerts.syslog]
//! address = "unix:/dev/log"               # or "udp:192.0.2.1:514"
//! filter = ""
//! [alerts.sns]
//! topic = "arn:aws:sns:eu-central-1:123456789012:auditty"
//! endpoint_url = "http://localhost:4566"  # without, AWS's of the topic's region
//! filter = ""
//! ```
//!
//! Every key of the top and every table may be left out; without the tables only
//! root and the collector's own user are served, over the Unix socket or loopback.
//! Roles are `agent`, `viewer`, `auditor`, `grant-writer` and `admin`.

mod access;
mod alerts;

use std::{
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

pub use access::WebhookSettings;
use access::{RawApiToken, RawLimits, RawOidc, RawTls, RawWebhook};
pub use alerts::RawAlerts;

use crate::{
    access::{ApiToken, Limits, OidcSettings, TlsFiles},
    alerts::AlarmSettings,
    countersign,
    hearing::DEFAULT_SILENCE,
    listen::ListenAddress,
    store::Location,
};

/// Where a collector listens unless told otherwise.
pub const DEFAULT_LISTEN: &str = "unix:/run/auditty-collector/collector.sock";
/// Where its database is unless told otherwise.
pub const DEFAULT_DATABASE: &str = "/var/lib/auditty-collector/collector.db";
/// Agents report every ten seconds, and may be away for a restart.
const SILENCE_SECONDS: RangeInclusive<u64> = 30..=30 * 86_400;
/// Largest configuration file that is read, in bytes.
const MAX_FILE_LEN: u64 = 1024 * 1024;

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, or has a key or type that is not known.
    #[error("{path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        reason: String,
    },
    /// A value is not accepted.
    #[error("{origin}: `{key}`: {reason}")]
    Value {
        /// The file, or the flag.
        origin: String,
        /// The key.
        key: &'static str,
        /// What is accepted.
        reason: String,
    },
}

/// What a file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: Option<Vec<String>>,
    database: Option<String>,
    signing_key: Option<PathBuf>,
    allow_plaintext: Option<bool>,
    silent_after_seconds: Option<u64>,
    tls: Option<RawTls>,
    oidc: Option<RawOidc>,
    #[serde(default)]
    api_tokens: Vec<RawApiToken>,
    webhook: Option<RawWebhook>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    alerts: RawAlerts,
}

/// What flags say; they win over the file.
#[derive(Debug, Default)]
pub struct Flags {
    /// Where to listen, empty for what the file says.
    pub listen: Vec<ListenAddress>,
    /// The database.
    pub database: Option<Location>,
}

/// A checked configuration.
#[derive(Debug, PartialEq)]
pub struct Config {
    listen: Vec<ListenAddress>,
    database: Location,
    signing_key: PathBuf,
    allow_plaintext: bool,
    silence: Duration,
    tls: Option<TlsFiles>,
    oidc: Option<OidcSettings>,
    api_tokens: Vec<ApiToken>,
    webhook: Option<WebhookSettings>,
    limits: Limits,
    alerts: AlarmSettings,
}

impl Config {
    /// Reads the file, where there is one, and puts the flags over it.
    pub fn load(file: Option<&Path>, flags: Flags) -> Result<Self, ConfigError> {
        let raw = file.map(read).transpose()?.unwrap_or_default();
        let origin = file.map_or("default".into(), Path::to_string_lossy);
        let wrong = |key, reason: String| ConfigError::Value {
            origin: origin.to_string(),
            key,
            reason,
        };
        let named = |(key, reason)| wrong(key, reason);
        let listen = match flags.listen {
            listen if !listen.is_empty() => listen,
            _ => raw
                .listen
                .unwrap_or_else(|| vec![DEFAULT_LISTEN.to_owned()])
                .iter()
                .map(|address| address.parse().map_err(|reason| wrong("listen", reason)))
                .collect::<Result<_, _>>()?,
        };
        if listen.is_empty() {
            let reason = "must name at least one address, such as \"127.0.0.1:7443\"";
            return Err(wrong("listen", reason.to_owned()));
        }
        let database = match (flags.database, raw.database) {
            (Some(location), _) => location,
            (None, text) => text
                .unwrap_or_else(|| DEFAULT_DATABASE.to_owned())
                .parse()
                .map_err(|reason| wrong("database", reason))?,
        };
        let signing_key = raw.signing_key;
        Ok(Self {
            listen,
            signing_key: signing_key.unwrap_or_else(|| countersign::default_key(&database)),
            database,
            allow_plaintext: raw.allow_plaintext.unwrap_or(false),
            silence: match raw.silent_after_seconds {
                None => DEFAULT_SILENCE,
                Some(seconds) if SILENCE_SECONDS.contains(&seconds) => Duration::from_secs(seconds),
                Some(_) => {
                    let (least, most) = (SILENCE_SECONDS.start(), SILENCE_SECONDS.end());
                    let reason = format!("must be {least} to {most}");
                    return Err(wrong("silent_after_seconds", reason));
                }
            },
            tls: raw.tls.map(RawTls::check).transpose().map_err(named)?,
            oidc: raw.oidc.map(RawOidc::check).transpose().map_err(named)?,
            api_tokens: raw
                .api_tokens
                .into_iter()
                .map(RawApiToken::check)
                .collect::<Result<_, _>>()
                .map_err(named)?,
            webhook: raw
                .webhook
                .map(RawWebhook::check)
                .transpose()
                .map_err(named)?,
            limits: raw.limits.check().map_err(named)?,
            alerts: raw.alerts.check().map_err(named)?,
        })
    }

    /// Where to listen; at least one address.
    pub fn listen(&self) -> &[ListenAddress] {
        &self.listen
    }

    /// The database.
    pub fn database(&self) -> &Location {
        &self.database
    }

    /// The file of the key that signs receipts.
    pub fn signing_key(&self) -> &Path {
        &self.signing_key
    }

    /// TCP beyond this machine is wanted without TLS.
    pub fn allow_plaintext(&self) -> bool {
        self.allow_plaintext
    }

    /// How long a host may say nothing before its sessions are closed.
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// Keys and certificates for TCP.
    pub fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }

    /// The identity provider.
    pub fn oidc(&self) -> Option<&OidcSettings> {
        self.oidc.as_ref()
    }

    /// Tokens handed out by hand.
    pub fn api_tokens(&self) -> &[ApiToken] {
        &self.api_tokens
    }

    /// Where grants are pushed.
    pub fn webhook(&self) -> Option<&WebhookSettings> {
        self.webhook.as_ref()
    }

    /// How much one caller may ask for.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What is an alert, and where alerts go.
    pub fn alerts(&self) -> &AlarmSettings {
        &self.alerts
    }
}

fn read(path: &Path) -> Result<Raw, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE_LEN {
        return Err(failed(io::Error::other("larger than 1 MiB")));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    toml::from_str(&text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), Flags::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_empty_file_means_the_defaults() {
        let config = load("").unwrap();
        assert_eq!(config, Config::load(None, Flags::default()).unwrap());
        assert_eq!(config.listen(), &[DEFAULT_LISTEN.parse().unwrap()]);
        assert_eq!(config.database().to_string(), DEFAULT_DATABASE);
        assert!(!config.allow_plaintext());
    }

    #[test]
    fn errors_name_the_key_and_what_is_accepted() {
        for (text, words) in [
            ("databse = \"/x\"", ["databse", "database"]),
            ("allow_plaintext = 1", ["allow_plaintext", "boolean"]),
            ("listen = [\"localhost:1\"]", ["`listen`", "127.0.0.1:7443"]),
            ("listen = [\"unix:x\"]", ["`listen`", "absolute"]),
            ("listen = []", ["`listen`", "at least one"]),
            (
                "silent_after_seconds = 5",
                ["`silent_after_seconds`", "30 to"],
            ),
            ("[tls]\nkey = \"/k\"", ["certificate", "missing"]),
            (
                "[[api_tokens]]\nname = \"x\"\nroles = [\"root\"]\ntenant = \"a\"\nsha256 = \"\"",
                ["`api_tokens.roles`", "grant-writer"],
            ),
            (
                "[oidc]\nissuer = \"i\"\naudience = \"a\"\njwks = \"http://x\"\ntenant = \"*\"\n[oidc.roles]",
                ["`oidc.jwks`", "https://"],
            ),
            (
                "[webhook]\nlisten = []",
                ["`webhook.listen`", "at least one"],
            ),
            (
                "[webhook]\nlisten = [\"[::1]:1\"]\n[[webhook.secrets]]\nname = \"x\"\ntenant = \"\"\nfile = \"/s\"",
                ["`webhook.secrets.tenant`", "name one"],
            ),
            (
                "[alerts]\nhost_silent_after_seconds = 5",
                ["`alerts.host_silent_after_seconds`", "16 to"],
            ),
            (
                "[[alerts.rules]]\nname = \"x\"\nfilter = \"line : 'x'\"",
                ["`alerts.rules.filter`", "command_line"],
            ),
            (
                "[[alerts.rules]]\nname = \"x\"",
                ["`alerts.rules.filter`", "\"x\": must not be empty"],
            ),
            (
                "[[alerts.rules]]\nname = \"x\"\npattern = \"a(\"",
                [
                    "`alerts.rules.pattern`",
                    "the pattern of \"x\": regex parse error",
                ],
            ),
            (
                "[[alerts.webhooks]]\nname = \"x\"\nurl = \"http://example.com\"",
                ["`alerts.webhooks.url`", "https://"],
            ),
            (
                "[alerts.syslog]\naddress = \"/dev/log\"",
                ["`alerts.syslog.address`", "unix:/dev/log"],
            ),
            (
                "[alerts.sns]\ntopic = \"auditty\"",
                ["`alerts.sns.topic`", "arn:aws:sns:"],
            ),
            (
                "[alerts.sns]\ntopic = \"arn:aws:sns:eu-central-1:1:x\"\nendpoint_url = \"http://sns.example.com\"",
                ["`alerts.sns.endpoint_url`", "https://"],
            ),
            ("[limits]\nburst = 0", ["`limits.burst`", "1000000"]),
            ("database = \"mysql://x\"", ["`database`", "postgres://"]),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains("/tmp"), "no file in: {error}");
            for word in words {
                assert!(error.contains(word), "no {word} in: {error}");
            }
        }
    }

    #[test]
    fn flags_win() {
        let flags = Flags {
            listen: vec!["127.0.0.1:1".parse().unwrap()],
            database: Some("/other".parse().unwrap()),
        };
        let config = Config::load(None, flags).unwrap();
        assert_eq!(config.listen(), &["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(config.database().to_string(), "/other");
    }
}

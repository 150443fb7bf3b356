//! The agent's configuration: one TOML file.
//!
//! Read in two steps: what was written ([`raw`]), then what is meant
//! ([`Config`] and its sections). What is not accepted is refused with the key,
//! the file, the line and what would be accepted. `deploy/agent.toml` documents
//! every key.

mod encryption;
mod error;
mod host;
mod places;
mod raw;
mod sections;
mod strict;
pub(crate) mod units;
mod values;

use std::fs;
use std::io;
use std::path::Path;

pub use encryption::Encryption;
pub use error::ConfigError;
pub use host::HostIdError;
pub use places::{Address, ClientTls, Collector};
pub use sections::{
    Attach, Capture, Files, Grants, Host, Input, Log, LogFormat, Mode, Recording, Spool, WhenOver,
};

pub use strict::Strict;

use auditty_recording::store::StoreConfig;
use error::Source;
use raw::RawConfig;

/// Read when no other file is named.
pub const DEFAULT_PATH: &str = "/etc/auditty/agent.toml";

/// Every key with its default and what it means.
pub const DEFAULT_FILE: &str = include_str!("../../../deploy/agent.toml");

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    host: Host,
    capture: Capture,
    recording: Recording,
    encryption: Encryption,
    store: StoreConfig,
    collector: Collector,
    report_content: bool,
    grants: Grants,
    spool: Spool,
    strict: Strict,
    log: Log,
}

impl Config {
    /// The configuration in `path`; without one, in [`DEFAULT_PATH`], where a
    /// missing file means all defaults.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(file, &text),
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Self::parse(file, "")
            }
            Err(source) => Err(ConfigError::Read {
                path: file.to_owned(),
                source,
            }),
        }
    }

    /// The configuration `text`, as the content of `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source { path, text };
        let raw: RawConfig = toml::from_str(text).map_err(|error| source.unreadable(&error))?;
        let encryption = Encryption::check(raw.encryption, &source)?;
        let report_content = raw.collector.report_content.as_ref();
        Ok(Self {
            host: Host::check(raw.host, &source)?,
            capture: Capture::check(raw.capture, &source)?,
            recording: Recording::check(raw.recording, &source)?,
            // What only auditors may read is not told in the clear unless asked for.
            report_content: report_content.map_or(encryption.recipients().is_none(), |report| {
                *report.get_ref()
            }),
            encryption,
            store: places::store(raw.store, &source)?,
            collector: Collector::check(raw.collector, raw.alerts, &source)?,
            grants: Grants::check(raw.grants, &source)?,
            spool: Spool::check(raw.spool, &source)?,
            strict: Strict::check(raw.strict, &source)?,
            log: Log::check(raw.log, &source)?,
        })
    }

    /// How this machine is called.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What the kernel side does.
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    /// The rhythm of a recording.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Who may read recordings.
    pub fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// Where recordings go.
    pub fn store(&self) -> &StoreConfig {
        &self.store
    }

    /// Who takes the metadata.
    pub fn collector(&self) -> &Collector {
        &self.collector
    }

    /// Whether it is told command lines and names of files as well.
    pub fn report_content(&self) -> bool {
        self.report_content
    }

    /// Where approved accesses are found.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// What waits for acknowledgement.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Who gets no session that nothing records.
    pub fn strict(&self) -> &Strict {
        &self.strict
    }

    /// What the agent says of itself.
    pub fn log(&self) -> &Log {
        &self.log
    }
}

#[cfg(test)]
mod tests {
    use auditty_recording::store::{
        Encryption as ServerSide, ObjectLock, RetentionMode, S3Options,
    };

    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("agent.toml"), text)
    }

    fn refusal(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_documented_file_is_the_defaults() {
        assert_eq!(parse(DEFAULT_FILE).unwrap(), parse("").unwrap());
    }

    #[test]
    fn every_key_stands_in_the_documented_file() {
        let unknown = refusal("[store]\nx = 1");
        let accepted = unknown.split_once("accepted: ").unwrap().1;
        for key in accepted.split(", ") {
            let key = key.trim_matches('`');
            assert!(DEFAULT_FILE.contains(&format!("{key} = ")), "{key}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_line_and_accepted_ones() {
        assert_eq!(
            refusal("[capture]\n\ninputt = \"off\"\n"),
            "agent.toml:3: `capture.inputt`: unknown field `inputt`; accepted: `mode`, \
             `input`, `attach`, `pin`, `data_ring_size`, `control_ring_size`, `files`, \
             `sensitive_paths`, `transfer_content`"
        );
        assert!(
            refusal("[cptr]\n").starts_with("agent.toml:1: unknown field `cptr`; accepted: `host`")
        );
    }

    #[test]
    fn a_value_out_of_range_is_named_with_what_is_accepted() {
        assert_eq!(
            refusal("# one\n[capture]\ninput = \"all\""),
            "agent.toml:3: `capture.input` is \"all\"; accepted: \"masked\", \"off\" or \
             \"full\""
        );
        assert_eq!(
            refusal("[recording]\nchunk_interval = \"1ms\""),
            "agent.toml:2: `recording.chunk_interval` is \"1ms\"; accepted: a duration such as \
             \"250ms\", \"10s\", \"5m\" or \"2h\", from 1s to 1h"
        );
        assert_eq!(
            refusal("[capture]\ndata_ring_size = \"3 MiB\""),
            "agent.toml:2: `capture.data_ring_size` is \"3 MiB\"; accepted: a power of two, \
             from 256 KiB to 1 GiB"
        );
        assert!(refusal("[spool]\nmax_bytes = 5").starts_with(
            "agent.toml:2: `spool.max_bytes`: invalid type: integer `5`, expected a string"
        ));
        assert!(refusal("[spool\n").starts_with("agent.toml:1: "));
    }

    #[test]
    fn labels_have_names_and_bounds() {
        let config = parse("[host]\nlabels = { env = \"prod\", \"k8s.io-zone\" = \"a\" }").unwrap();
        assert_eq!(config.host().labels()["env"], "prod");
        assert!(refusal("[host]\nlabels = { \"a b\" = \"x\" }").contains("`host.labels`"));
        let long = "x".repeat(257);
        let refused = refusal(&format!("[host]\nlabels = {{ a = \"{long}\" }}"));
        assert!(refused.contains("`host.labels.a`"), "{refused}");
    }

    #[test]
    fn keys_that_do_not_belong_together_are_refused() {
        assert!(refusal("[store]\nregion = \"x\"").contains("only with an s3:// `store.url`"));
        assert!(
            refusal("[collector]\nmode = \"remote\"").contains("together with collector.address")
        );
        assert!(refusal("[collector]\nlisten = [\"0.0.0.0:1\"]").contains("loopback"));
        let rule = "[[alerts.rules]]\nname = \"a\"\nfilter = \"euid = 0\"\n";
        let remote = "[collector]\nmode = \"remote\"\naddress = \"unix:/a\"\n";
        let elsewhere = refusal(&format!("{remote}{rule}"));
        assert!(elsewhere.contains("`alerts`: only with"), "{elsewhere}");
        let wrong = refusal(&rule.replace("euid", "eid"));
        assert!(wrong.contains("`alerts.rules.filter`: "), "{wrong}");
        assert!(parse(rule).is_ok());
        let bucket = |keys: &str| refusal(&format!("[store]\nurl = \"s3://b\"\n{keys}"));
        assert!(bucket("kms_key_id = \"k\"").contains("aws:kms"));
        assert!(bucket("retention_days = 30").contains("only with store.object_lock"));
        assert!(bucket("object_lock = \"compliance\"").contains("store.retention_days"));
        assert!(bucket("object_lock = \"off\"\nretention_days = 1").contains("only with"));
        assert!(bucket("tags = { \"aws:x\" = \"y\" }").contains("at most 10 tags"));
        assert!(refusal("[store]\ntags = { a = \"b\" }").contains("only with an s3://"));
    }

    #[test]
    fn a_bucket_is_read_whole() {
        let config = parse(
            "[store]\nurl = \"s3://b/a/c/\"\nendpoint_url = \"http://127.0.0.1:1\"\n\
             region = \"r\"\npath_style = true\nsse = \"aws:kms\"\nkms_key_id = \"k\"\n\
             object_lock = \"compliance\"\nretention_days = 30\ntags = { class = \"audit\" }",
        );
        let expected = StoreConfig {
            url: "s3://b/a/c".parse().unwrap(),
            s3: S3Options {
                endpoint_url: Some("http://127.0.0.1:1".into()),
                region: Some("r".into()),
                path_style: true,
                encryption: ServerSide::Kms {
                    key_id: Some("k".into()),
                },
                object_lock: ObjectLock::Explicit {
                    mode: RetentionMode::Compliance,
                    days: 30,
                },
                tags: vec![("class".into(), "audit".into())],
            },
        };
        assert_eq!(*config.unwrap().store(), expected);
    }

    #[test]
    fn what_asks_for_encryption_and_cannot_have_it_is_refused() {
        const KEY: &str =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
        let section = |keys: &str| format!("[encryption]\n{keys}\n");
        let config = parse(&section(&format!("recipients = [\"{KEY} alice\"]"))).unwrap();
        let (all, input) = config.encryption().recipients().unwrap().texts();
        assert_eq!((all, input.len()), (vec![KEY.to_owned()], 0));
        assert!(!config.report_content());
        let told =
            format!("[collector]\nreport_content = true\n[encryption]\nrecipients = [\"{KEY}\"]");
        assert!(parse(&told).unwrap().report_content());
        assert!(parse("").unwrap().encryption().recipients().is_none());
        assert!(parse("").unwrap().report_content());
        let kept = parse("[collector]\nreport_content = false").unwrap();
        assert!(!kept.report_content());
        let refused = |keys: &str| refusal(&section(keys));
        assert_eq!(
            refused("recipients = [\"nobody\"]"),
            "agent.toml:2: `encryption.recipients`: `nobody` is no public key: give `age1…`, \
             `ssh-ed25519 AAAA…` or `ssh-rsa AAAA…`"
        );
        let private = refused("recipients = [\"AGE-SECRET-KEY-1QQ\"]");
        assert!(
            private.contains("private key") && !private.contains("1QQ"),
            "{private}"
        );
        assert!(refused("recipients = []").contains("no key in it"));
        let alone = refused(&format!("input_recipients = [\"{KEY}\"]"));
        assert!(alone.contains("only together with"), "{alone}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let listed = format!("recipients_file = \"{}\"", file.path().display());
        assert!(refused(&listed).contains("no key in it"));
        fs::write(file.path(), format!("# auditors\n{KEY}\nnonsense\n")).unwrap();
        assert!(refused(&listed).contains("line 3 of it"));
        fs::write(file.path(), format!("# auditors\n{KEY}\n")).unwrap();
        assert!(
            parse(&section(&listed))
                .unwrap()
                .encryption()
                .recipients()
                .is_some()
        );
        assert!(refused("recipients_file = \"/nonexistent\"").contains("cannot be read"));
    }

    #[test]
    fn only_the_default_file_may_be_missing() {
        let error = Config::load(Some(Path::new("/nonexistent/agent.toml"))).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/agent.toml"),
            "{error}"
        );
    }
}

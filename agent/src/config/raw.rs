//! The configuration as written: every key optional, nothing checked but its
//! name and type.

use std::collections::BTreeMap;

use auditty_collector::config::RawAlerts;
use serde::Deserialize;
use toml::Spanned;

/// A text, with its place in the file.
pub(super) type Text = Option<Spanned<String>>;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) host: RawHost,
    pub(super) capture: RawCapture,
    pub(super) recording: RawRecording,
    pub(super) encryption: RawEncryption,
    pub(super) store: RawStore,
    pub(super) collector: RawCollector,
    pub(super) alerts: Option<Spanned<RawAlerts>>,
    pub(super) grants: RawGrants,
    pub(super) spool: RawSpool,
    pub(super) strict: RawStrict,
    pub(super) log: RawLog,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawHost {
    pub(super) id: Text,
    pub(super) labels: BTreeMap<String, Spanned<String>>,
    pub(super) state_directory: Text,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCapture {
    pub(super) mode: Text,
    pub(super) input: Text,
    pub(super) attach: Text,
    pub(super) pin: Option<Spanned<bool>>,
    pub(super) data_ring_size: Text,
    pub(super) control_ring_size: Text,
    pub(super) files: Text,
    pub(super) sensitive_paths: Option<Spanned<Vec<String>>>,
    pub(super) transfer_content: Option<Spanned<bool>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRecording {
    pub(super) chunk_interval: Text,
    pub(super) chunk_size: Text,
    pub(super) flush_interval: Text,
    pub(super) digest_interval: Text,
    pub(super) key_lifetime: Text,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawEncryption {
    pub(super) recipients: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) recipients_file: Text,
    pub(super) input_recipients: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawStore {
    pub(super) url: Text,
    pub(super) endpoint_url: Text,
    pub(super) region: Text,
    pub(super) path_style: Option<Spanned<bool>>,
    pub(super) sse: Text,
    pub(super) kms_key_id: Text,
    pub(super) object_lock: Text,
    pub(super) retention_days: Option<Spanned<u32>>,
    pub(super) tags: Option<Spanned<BTreeMap<String, String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCollector {
    pub(super) mode: Text,
    pub(super) listen: Option<Vec<Spanned<String>>>,
    pub(super) database: Text,
    pub(super) report_content: Option<Spanned<bool>>,
    pub(super) address: Text,
    pub(super) ca: Text,
    pub(super) certificate: Text,
    pub(super) key: Text,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawGrants {
    pub(super) directory: Text,
    pub(super) when_over: Text,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSpool {
    pub(super) directory: Text,
    pub(super) max_bytes: Text,
    pub(super) shed: Option<Vec<Spanned<String>>>,
    pub(super) reserve: Text,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawStrict {
    pub(super) users: Option<Vec<Spanned<String>>>,
    pub(super) break_glass: Option<Vec<Spanned<String>>>,
    pub(super) end_after: Text,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) format: Text,
    pub(super) level: Text,
}

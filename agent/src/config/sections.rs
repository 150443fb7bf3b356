//! The configuration as meant: each section checked, with its defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Source};
use super::raw::{RawCapture, RawGrants, RawHost, RawLog, RawRecording, RawSpool};
use super::values::text_or;
use auditty_recording::event::GapClass;

use crate::capture::sensitive::{ACCEPTED, PATTERNS_MAX, SensitivePaths};
use toml::Spanned;

/// `[host]`: how this machine is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub(super) id: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) state_directory: PathBuf,
}

/// `[capture]`: what the kernel side does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    pub(super) mode: Option<Mode>,
    pub(super) input: Input,
    pub(super) attach: Attach,
    pub(super) pin: bool,
    pub(super) data_ring_size: u32,
    pub(super) control_ring_size: u32,
    pub(super) files: Files,
    pub(super) sensitive_paths: SensitivePaths,
    pub(super) transfer_content: bool,
}

/// What of file activity is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// Changes, and reads of sensitive paths.
    Changes,
    /// Only what is transferred.
    Off,
}

/// Secrets that Linux hosts have, by default.
const SENSITIVE_PATHS: [&str; 8] = [
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/krb5.keytab",
    "/etc/ssh/*_key",
    "/root/.ssh",
    "*/.ssh/id_*",
];

/// What of the input is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// All but what is typed while a terminal hides it.
    Masked,
    /// Nothing.
    Off,
    /// All, secrets too.
    Full,
}

/// How the kernel is asked; see `capture::ladder`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// At the line discipline, by probes of kernel functions.
    KernelFunction,
    /// At system calls.
    Tracepoint,
    /// Inside sshd's program.
    Uprobe,
}

/// When the hooks on system calls are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// While an SSH connection is open, or processes it left behind run.
    OnDemand,
    /// While an SSH connection is open.
    WhileConnected,
    /// As long as the agent runs.
    Always,
}

/// `[recording]`: the rhythm of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    pub(super) chunk_interval: Duration,
    pub(super) chunk_size: u64,
    pub(super) flush_interval: Duration,
    pub(super) digest_interval: Duration,
    pub(super) key_lifetime: Duration,
}

/// `[grants]`: where approved accesses are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    pub(super) directory: PathBuf,
    pub(super) when_over: WhenOver,
}

/// What becomes of a session that has outlived its grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenOver {
    /// It goes on, and is shown so.
    Flag,
    /// Its sshd is told to end.
    End,
}

/// `[spool]`: what waits for acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    pub(super) directory: PathBuf,
    pub(super) max_bytes: u64,
    pub(super) shed: Vec<GapClass>,
    pub(super) reserve: u64,
}

/// `[log]`: what the agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub(super) format: LogFormat,
    pub(super) level: String,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Host {
    pub(super) fn check(raw: RawHost, source: &Source<'_>) -> Result<Self, ConfigError> {
        let id = raw.id.map(|id| {
            if is_host_id(id.get_ref()) {
                Ok(id.into_inner())
            } else {
                Err(source.rejected(
                    "host.id",
                    id.span(),
                    "1 to 64 of a-z A-Z 0-9 . _ -, not beginning with a dot",
                ))
            }
        });
        Ok(Self {
            id: id.transpose()?,
            labels: labels(raw.labels, source)?,
            state_directory: source.path(
                "host.state_directory",
                raw.state_directory,
                "/var/lib/auditty",
            )?,
        })
    }
}

/// Most labels of a host, and the longest value in bytes: they stand in the
/// metadata of every session.
const LABELS_MAX: usize = 64;
const LABEL_LEN_MAX: usize = 256;

fn labels(
    raw: BTreeMap<String, Spanned<String>>,
    source: &Source<'_>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    const NAME: &str = "names of 1 to 64 of a-z A-Z 0-9 . _ -, not beginning with a dot";
    const VALUE: &str = "at most 64 labels with values of up to 256 bytes of printable text";
    let many = raw.len() > LABELS_MAX;
    let mut labels = BTreeMap::new();
    for (name, value) in raw {
        let span = value.span();
        if !is_host_id(&name) {
            return Err(source.rejected("host.labels", span, NAME));
        }
        let value = value.into_inner();
        if many || value.len() > LABEL_LEN_MAX || value.chars().any(char::is_control) {
            return Err(source.rejected(&format!("host.labels.{name}"), span, VALUE));
        }
        labels.insert(name, value);
    }
    Ok(labels)
}

/// Whether `id` can name a host, in object keys too.
pub(super) fn is_host_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && !id.starts_with('.')
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

impl Capture {
    pub(super) fn check(raw: RawCapture, source: &Source<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            mode: source.choice(
                "capture.mode",
                raw.mode,
                &[
                    ("auto", None),
                    ("kernel-function", Some(Mode::KernelFunction)),
                    ("tracepoint", Some(Mode::Tracepoint)),
                    ("uprobe", Some(Mode::Uprobe)),
                ],
            )?,
            input: source.choice(
                "capture.input",
                raw.input,
                &[
                    ("masked", Input::Masked),
                    ("off", Input::Off),
                    ("full", Input::Full),
                ],
            )?,
            attach: source.choice(
                "capture.attach",
                raw.attach,
                &[
                    ("on-demand", Attach::OnDemand),
                    ("while-connected", Attach::WhileConnected),
                    ("always", Attach::Always),
                ],
            )?,
            pin: raw.pin.is_none_or(Spanned::into_inner),
            data_ring_size: source.ring_size(
                "capture.data_ring_size",
                raw.data_ring_size,
                32 << 20,
            )?,
            control_ring_size: source.ring_size(
                "capture.control_ring_size",
                raw.control_ring_size,
                8 << 20,
            )?,
            files: source.choice(
                "capture.files",
                raw.files,
                &[("changes", Files::Changes), ("off", Files::Off)],
            )?,
            sensitive_paths: sensitive_paths(raw.sensitive_paths, source)?,
            transfer_content: raw.transfer_content.is_some_and(Spanned::into_inner),
        })
    }

    /// How the kernel is asked; without one, in the best way it allows.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// What of file activity is recorded.
    pub fn files(&self) -> Files {
        self.files
    }

    /// Files of which reads are recorded.
    pub fn sensitive_paths(&self) -> &SensitivePaths {
        &self.sensitive_paths
    }

    /// Whether the bytes of file transfers are recorded.
    pub fn transfer_content(&self) -> bool {
        self.transfer_content
    }

    /// What of the input is recorded.
    pub fn input(&self) -> Input {
        self.input
    }

    /// When the hooks on system calls are attached.
    pub fn attach(&self) -> Attach {
        self.attach
    }

    /// Whether the kernel goes on capturing while no agent runs.
    pub fn pin(&self) -> bool {
        self.pin
    }

    /// Size of the ring for terminal and pipe bytes, bytes, a power of two.
    pub fn data_ring_size(&self) -> u32 {
        self.data_ring_size
    }

    /// Size of the ring for everything else, bytes, a power of two.
    pub fn control_ring_size(&self) -> u32 {
        self.control_ring_size
    }
}

fn sensitive_paths(
    paths: Option<Spanned<Vec<String>>>,
    source: &Source<'_>,
) -> Result<SensitivePaths, ConfigError> {
    const KEY: &str = "capture.sensitive_paths";
    let (paths, span) = match paths {
        Some(paths) => (paths.get_ref().clone(), paths.span()),
        None => (SENSITIVE_PATHS.map(str::to_owned).to_vec(), 0..0),
    };
    if paths.len() > PATTERNS_MAX {
        let most = format_args!("at most {PATTERNS_MAX} paths");
        return Err(source.rejected(KEY, span, most));
    }
    SensitivePaths::parse(paths.iter().map(String::as_str)).map_err(|path| {
        source.rejected(KEY, span, format_args!("in place of \"{path}\" {ACCEPTED}"))
    })
}

impl Recording {
    pub(super) fn check(raw: RawRecording, source: &Source<'_>) -> Result<Self, ConfigError> {
        const SECOND: Duration = Duration::from_secs(1);
        let hour = Duration::from_secs(3600);
        let tenth = Duration::from_millis(100);
        Ok(Self {
            chunk_interval: source.duration(
                "recording.chunk_interval",
                raw.chunk_interval,
                8 * SECOND,
                SECOND..=hour,
            )?,
            chunk_size: source.size(
                "recording.chunk_size",
                raw.chunk_size,
                4 << 20,
                64 << 10..=256 << 20,
            )?,
            flush_interval: source.duration(
                "recording.flush_interval",
                raw.flush_interval,
                Duration::from_millis(250),
                tenth..=60 * SECOND,
            )?,
            digest_interval: source.duration(
                "recording.digest_interval",
                raw.digest_interval,
                600 * SECOND,
                SECOND..=24 * hour,
            )?,
            key_lifetime: source.duration(
                "recording.key_lifetime",
                raw.key_lifetime,
                24 * hour,
                SECOND..=24 * 90 * hour,
            )?,
        })
    }

    /// How old an open chunk may become.
    pub fn chunk_interval(&self) -> Duration {
        self.chunk_interval
    }

    /// How large an open chunk may become, bytes as stored.
    pub fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    /// How often the open chunk is written to disk.
    pub fn flush_interval(&self) -> Duration {
        self.flush_interval
    }

    /// How often the host's digest is made.
    pub fn digest_interval(&self) -> Duration {
        self.digest_interval
    }

    /// How long a signing key signs.
    pub fn key_lifetime(&self) -> Duration {
        self.key_lifetime
    }
}

impl Grants {
    pub(super) fn check(raw: RawGrants, source: &Source<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            directory: source.path("grants.directory", raw.directory, "/etc/auditty/grants")?,
            when_over: source.choice(
                "grants.when_over",
                raw.when_over,
                &[("flag", WhenOver::Flag), ("end", WhenOver::End)],
            )?,
        })
    }

    /// What becomes of a session that has outlived its grant.
    pub fn when_over(&self) -> WhenOver {
        self.when_over
    }

    /// The folder with the grant files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Spool {
    pub(super) fn check(raw: RawSpool, source: &Source<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            directory: source.path("spool.directory", raw.directory, "/var/lib/auditty/spool")?,
            max_bytes: source.size(
                "spool.max_bytes",
                raw.max_bytes,
                10 << 30,
                16 << 20..=1 << 50,
            )?,
            shed: shed(raw.shed, source)?,
            reserve: source.size("spool.reserve", raw.reserve, 16 << 20, 1 << 20..=1 << 30)?,
        })
    }

    /// The folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its bound, bytes.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Classes of events that are not taken when it fills up, in this order.
    pub fn shed(&self) -> &[GapClass] {
        &self.shed
    }

    /// Room that is kept free for the end of open sessions, bytes.
    pub fn reserve(&self) -> u64 {
        self.reserve
    }
}

fn shed(
    classes: Option<Vec<Spanned<String>>>,
    source: &Source<'_>,
) -> Result<Vec<GapClass>, ConfigError> {
    const CLASSES: [(&str, GapClass); 3] = [
        ("files", GapClass::File),
        ("network", GapClass::Network),
        ("input", GapClass::Input),
    ];
    let Some(classes) = classes else {
        return Ok(CLASSES.map(|(_, class)| class).to_vec());
    };
    let mut shed = Vec::new();
    for class in classes {
        let class = source.choice("spool.shed", Some(class), &CLASSES)?;
        if !shed.contains(&class) {
            shed.push(class);
        }
    }
    Ok(shed)
}

impl Log {
    pub(super) fn check(raw: RawLog, source: &Source<'_>) -> Result<Self, ConfigError> {
        let format = source.choice(
            "log.format",
            raw.format,
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        )?;
        let (level, span) = text_or(raw.level, "info");
        if level.parse::<tracing_subscriber::EnvFilter>().is_err() {
            return Err(source.rejected(
                "log.level",
                span,
                "error, warn, info, debug, trace, or a filter such as \"info,aws_config=warn\"",
            ));
        }
        Ok(Self { format, level })
    }

    /// How a line looks.
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// The filter.
    pub fn level(&self) -> &str {
        &self.level
    }
}

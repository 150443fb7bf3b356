//! `auditty hosts`, `auditty alerts`, `auditty coverage`, `auditty failed-logins`.

use clap::Args;

use super::{Page, Paging, label};

/// `auditty hosts`.
#[derive(Args, Debug)]
pub struct Hosts {
    /// Only hosts that nothing is heard of
    #[arg(long, conflicts_with = "live")]
    pub silent: bool,
    /// Only hosts that are heard of
    #[arg(long)]
    pub live: bool,
    /// Label of the host; several must all be there
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<String>,
    /// More conditions, joined by AND: `agent_version < "1.2" AND hostname : "db-"`
    #[arg(long, value_name = "EXPR")]
    pub filter: Option<String>,
    #[command(flatten)]
    pub paging: Paging,
}

/// `auditty alerts`.
#[derive(Args, Debug)]
pub struct Alerts {
    /// What is wrong
    #[arg(long, value_name = "KIND", value_parser = [
        "ungranted_login", "grant_outlived", "session_lossy", "session_interrupted",
        "sensitive_command", "host_silent", "host_heard", "host_changed",
        "host_key_uncertified", "evidence_conflict", "verification_failed", "hook_stopped",
        "hook_mended", "host_not_recorded",
    ])]
    pub kind: Option<String>,
    /// Name of the host
    #[arg(long)]
    pub host: Option<String>,
    /// Unix user of the session
    #[arg(long)]
    pub user: Option<String>,
    /// Label of the host; several must all be there
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<String>,
    /// At this time or later: `2h` (ago), `2026-01-31 12:00`, RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Go on with every new one, until interrupted
    #[arg(long, conflicts_with_all = ["all", "page_token", "until"])]
    pub follow: bool,
    #[command(flatten)]
    pub page: Page,
}

/// `auditty coverage`.
#[derive(Args, Debug)]
pub struct Coverage {
    /// From this time on: `30d` (ago), `2026-01-31 12:00`, RFC 3339
    #[arg(long, value_name = "TIME", default_value = "1d")]
    pub since: String,
    /// Before this time; without, now
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// The grants that no session used, instead of the hosts
    #[arg(long)]
    pub unused_grants: bool,
}

/// `auditty failed-logins`.
#[derive(Args, Debug)]
pub struct FailedLogins {
    /// The name that was tried
    #[arg(long)]
    pub user: Option<String>,
    /// Name of the host
    #[arg(long)]
    pub host: Option<String>,
    /// Address of the client
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// What became of it
    #[arg(long, value_parser = ["failed", "not_tried", "logged_in", "not_recorded"])]
    pub outcome: Option<String>,
    /// Begun at this time or later: `2h` (ago), `2026-01-31 12:00`, RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Begun before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    #[command(flatten)]
    pub page: Page,
}

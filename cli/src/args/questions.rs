//! `auditty sessions`, `auditty commands`, `auditty search`, `auditty audit`: who did
//! what, and who asked.

use clap::Args;

use super::{Page, label};

/// `auditty sessions`.
#[derive(Args, Debug)]
pub struct Sessions {
    /// Unix user that logged in
    #[arg(long)]
    pub user: Option<String>,
    /// Person, by any name: key id or principal of the certificate, or who asked
    /// for the grant
    #[arg(long)]
    pub person: Option<String>,
    /// Name of the host
    #[arg(long)]
    pub host: Option<String>,
    /// Started at this time or later: `2h` (ago), `2026-01-31 12:00`, RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Started before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Going on at some moment of the minute that begins at this time
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// How the login stands to the grants
    #[arg(long, value_name = "STATUS", value_parser = ["granted", "ungranted", "expired", "revoked", "ambiguous"])]
    pub grant_status: Option<String>,
    /// Label of the host; several must all be there
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<String>,
    /// Fingerprint of the key that logged in, `SHA256:…`
    #[arg(long, value_name = "FINGERPRINT")]
    pub key_fingerprint: Option<String>,
    /// Who asked for the grant
    #[arg(long)]
    pub requester: Option<String>,
    /// Somebody who approved
    #[arg(long)]
    pub approver: Option<String>,
    /// Access flow it was approved under
    #[arg(long, value_name = "FLOW")]
    pub access_flow: Option<String>,
    /// Id of the access request
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
    /// Whether the recording is whole
    #[arg(long, value_parser = ["open", "complete", "lossy", "interrupted"])]
    pub verdict: Option<String>,
    /// Going on or over
    #[arg(long, value_parser = ["active", "closed"])]
    pub state: Option<String>,
    /// What kind of channel
    #[arg(long, value_parser = ["shell", "exec", "subsystem", "forward"])]
    pub kind: Option<String>,
    /// Its client is a process of this session (full id)
    #[arg(long, value_name = "SESSION")]
    pub parent: Option<String>,
    /// Go on with every change, until interrupted: who logs in, what becomes of it
    #[arg(long, conflicts_with_all = ["all", "page_token", "until", "at"])]
    pub follow: bool,
    #[command(flatten)]
    pub page: Page,
}

/// `auditty commands`.
#[derive(Args, Debug)]
pub struct Commands {
    /// The session
    pub session: String,
    #[command(flatten)]
    pub line: Line,
    #[command(flatten)]
    pub page: Page,
}

/// What of a command line must be there as a whole.
#[derive(Args, Debug)]
pub struct Line {
    /// One of its arguments, or its own name, exactly; several must all be there
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub argument: Vec<String>,
    /// A word of it: `rm` finds `/bin/rm -r x`, not `alarm`; several must all be
    /// there
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub word: Vec<String>,
}

const SEARCH_HELP: &str = "\
TEXT is any part of a command line: its arguments with one space between them,
ASCII letters in either case. Put it behind `--` when it begins with a hyphen.
--word and --argument are for what stands there as a whole, in this case only.

--filter takes fields of the command (exe, filename, cwd, command_line, argument,
word, uid, euid, exit_code, signal, pid …) and every field of its session, as `session.approver`:
  auditty search useradd --filter 'euid = 0 AND session.grant_status = ungranted'

A collector has an index. With --store every recording that may match is read, the
newest session first: --since of the session (`session.start_time`), --host and
--until keep that short.";

/// `auditty search`.
#[derive(Args, Debug)]
#[command(after_help = SEARCH_HELP)]
pub struct Search {
    /// A part of the command line; without it, all commands
    pub text: Option<String>,
    #[command(flatten)]
    pub line: Line,
    /// Unix user that logged in
    #[arg(long)]
    pub user: Option<String>,
    /// Person, by any name: key id or principal of the certificate, or who asked
    /// for the grant
    #[arg(long)]
    pub person: Option<String>,
    /// Name of the host
    #[arg(long)]
    pub host: Option<String>,
    /// Label of the host; several must all be there
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<String>,
    /// Its exit code
    #[arg(long, value_name = "CODE")]
    pub exit_code: Option<u32>,
    /// Started at this time or later: `2h` (ago), `2026-01-31 12:00`, RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Started before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    #[command(flatten)]
    pub page: Page,
}

/// `auditty audit`.
#[derive(Args, Debug)]
pub struct Audit {
    /// Who called
    #[arg(long)]
    pub caller: Option<String>,
    /// What the caller said it is for: the verb, such as `replay` or `export`
    #[arg(long, value_name = "VERB")]
    pub purpose: Option<String>,
    /// At this time or later: `2h` (ago), `2026-01-31 12:00`, RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only calls that were refused for who the caller is
    #[arg(long)]
    pub refused: bool,
    #[command(flatten)]
    pub page: Page,
}

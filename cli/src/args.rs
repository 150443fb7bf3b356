//! What can be typed, exactly as it was typed. What it means is decided in
//! [`crate::config`].

mod grants;
mod keys;
mod questions;
mod tail;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use auditty_recording::export::Format;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use grants::{CreateGrant, GrantVerb, Grants, ImportGrants, ListGrants};
pub use keys::{Keys, KeysVerb};
pub use questions::{Audit, Commands, Line, Search, Sessions};
pub use tail::{Lines, Tail};
pub use watch::{Alerts, Coverage, FailedLogins, Hosts};

use crate::moment;

const AFTER_HELP: &str = "\
Where the answers come from, first match wins:
  1. --store          a bucket or folder alone, no collector needed
  2. --collector      a collector
  3. AUDITTY_STORE
  4. AUDITTY_COLLECTOR
  5. the collector of this host, unix:/run/auditty/collector.sock
Through a collector, `replay`, `tail` and `export` read the content from the place
the recording names, with your own rights; --store reads it from your copy instead.

A SESSION is its full id, `sessions/ID`, or a beginning of the id that only one
session has (4 characters or more).

Exit codes: 0 done, 1 error, 2 wrong usage, 3 not found, 4 the recording is
damaged (what is good is shown, each problem is on stderr).";

/// Who did what over SSH, when, and who allowed it.
#[derive(Debug, Parser)]
#[command(name = "auditty", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Args, Debug)]
pub struct Global {
    /// Ask this collector: `unix:/path`, `http://host:port` or
    /// `https://host:port` [env: AUDITTY_COLLECTOR] [default:
    /// unix:/run/auditty/collector.sock]
    #[arg(long, global = true, value_name = "ADDR", help_heading = "Source")]
    pub collector: Option<String>,
    /// Authorities of an https collector's certificate (PEM); without it, the
    /// system's
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "AUDITTY_CA",
        help_heading = "Source"
    )]
    pub ca: Option<PathBuf>,
    /// Your client certificate (PEM)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "AUDITTY_CERT",
        help_heading = "Source",
        requires = "key"
    )]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "AUDITTY_KEY",
        help_heading = "Source",
        requires = "cert"
    )]
    pub key: Option<PathBuf>,
    /// Bearer token for the collector; `@FILE` reads it from a file, out of sight
    /// of `ps`
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "AUDITTY_TOKEN",
        hide_env_values = true,
        help_heading = "Source"
    )]
    pub token: Option<String>,
    /// Work on a store alone, without a collector: a folder, `file:///folder`
    /// or `s3://bucket/prefix` [env: AUDITTY_STORE]
    #[arg(long, global = true, value_name = "URL", help_heading = "Source")]
    pub store: Option<String>,
    /// Private key that opens encrypted recordings: a file of `age-keygen`, or an
    /// OpenSSH private key; may be given several times
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "AUDITTY_IDENTITY",
        help_heading = "Source"
    )]
    pub identity: Vec<PathBuf>,
    /// S3 endpoint, for servers other than AWS
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "AUDITTY_S3_ENDPOINT_URL",
        help_heading = "Source"
    )]
    pub s3_endpoint_url: Option<String>,
    /// S3 region; without it, what the AWS configuration says
    #[arg(
        long,
        global = true,
        value_name = "REGION",
        env = "AUDITTY_S3_REGION",
        help_heading = "Source"
    )]
    pub s3_region: Option<String>,
    /// Put the bucket's name into the path, as most servers other than AWS want
    #[arg(
        long,
        global = true,
        env = "AUDITTY_S3_PATH_STYLE",
        help_heading = "Source"
    )]
    pub s3_path_style: bool,
    /// Tables for people, canonical proto3 JSON for programs, CSV for spreadsheets
    /// (sessions, failed-logins, audit, hosts, alerts, coverage)
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "table",
        help_heading = "Output"
    )]
    pub output: Output,
    /// When to use colour; `auto` means on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        help_heading = "Output"
    )]
    pub color: Color,
    /// Show and read times in UTC instead of the local zone
    #[arg(long, global = true, help_heading = "Output")]
    pub utc: bool,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}

/// When colour is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List sessions, newest first
    Sessions(Box<Sessions>),
    /// Everything known about one session: who, who allowed it, what, where
    Show(Show),
    /// List the programs a session started
    Commands(Commands),
    /// Find commands across all sessions, newest first
    Search(Search),
    /// List what a session did to files: created, changed, deleted, and looked
    /// at where the host records that
    Files(Activities),
    /// List the files a session transferred by sftp, scp, rsync or git
    Transfers(Activities),
    /// List a session's network connections, and those forwarded for its client
    Network(Activities),
    /// Logins that came to nothing, newest first: who tried, from where, how
    FailedLogins(FailedLogins),
    /// Who asked the collector for what, newest first; refused calls too
    Audit(Audit),
    /// The hosts: which are heard of, how they record, what is open there
    Hosts(Hosts),
    /// What somebody should look at, newest first: logins without a grant, gaps,
    /// silent hosts, sensitive commands
    Alerts(Alerts),
    /// What was recorded in a time range, host by host, and what was not
    Coverage(Coverage),
    /// Approved accesses: list, create, revoke them
    Grants(Grants),
    /// Play a session in this terminal
    Replay(Replay),
    /// Follow what a running session shows, until it ends
    Tail(Tail),
    /// Write a session in another format
    Export(Export),
    /// Is the store what its hosts sealed? Names every object that is not
    Verify(Verify),
    /// Pack one session with everything that proves it, for an auditor
    Bundle(Bundle),
    /// The public keys that hosts sign with
    Keys(Keys),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// Filter and paging, common to the lists.
#[derive(Args, Debug)]
pub struct Page {
    /// More conditions, joined by AND: `verdict = lossy AND client_address : "10.0."`
    #[arg(long, value_name = "EXPR")]
    pub filter: Option<String>,
    #[command(flatten)]
    pub paging: Paging,
}

/// Which part of a list.
#[derive(Args, Debug)]
pub struct Paging {
    /// How many at most, 1 to 1000 (the size of a page with --all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000), default_value = "100")]
    pub limit: u16,
    /// Continue where a page ended
    #[arg(long, value_name = "TOKEN", conflicts_with = "all")]
    pub page_token: Option<String>,
    /// All of them, page after page
    #[arg(long)]
    pub all: bool,
}

/// `auditty show`.
#[derive(Args, Debug)]
pub struct Show {
    /// The session
    pub session: String,
}

/// `auditty files`, `auditty transfers`, `auditty network`.
#[derive(Args, Debug)]
pub struct Activities {
    /// The session
    pub session: String,
    #[command(flatten)]
    pub page: Page,
}

const REPLAY_HELP: &str = "\
Keys:
  space   pause, go on              q, Esc, Ctrl-C   quit
  → ←     5 seconds on, back        g G              start, end
  ] + [ - faster, slower            .                one step (pauses)
  h j k l move the view when the recording is larger than the window

When the output is not a terminal, the session's text is printed instead; with
--from or --at, the screen as it was at that moment.";

/// `auditty replay`.
#[derive(Args, Debug)]
#[command(after_help = REPLAY_HELP)]
pub struct Replay {
    /// The session
    pub session: String,
    /// How fast, 0.1 to 64
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = speed)]
    pub speed: f64,
    /// Shorten pauses to this; `0` keeps them
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = moment::duration)]
    pub idle_limit: Duration,
    /// Begin this far into the session, such as `1m30s`
    #[arg(long, value_name = "DURATION", value_parser = moment::duration, conflicts_with = "at")]
    pub from: Option<Duration>,
    /// Begin at this time: RFC 3339, or a date and time in the shown zone
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Which terminal of the session; 0 is the client's own, the others are
    /// those of tmux, screen, script, sudo and the like
    #[arg(long, value_name = "N", default_value = "0")]
    pub terminal: u32,
    /// Follow the cursor when the recording is larger than the window (the
    /// default)
    #[arg(long, overrides_with = "no_fit")]
    pub fit: bool,
    /// Keep the view at the top left corner until it is moved by hand
    #[arg(long)]
    pub no_fit: bool,
}

fn label(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err("must be KEY=VALUE, such as env=prod".to_owned()),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('x').parse::<f64>() {
        Ok(factor) if (0.1..=64.0).contains(&factor) => Ok(factor),
        _ => Err("give a factor from 0.1 to 64".to_owned()),
    }
}

/// `auditty export`.
#[derive(Args, Debug)]
pub struct Export {
    /// The session
    pub session: String,
    /// The format: `asciicast-v3` for asciinema 3 and its player, `asciicast-v2`
    /// for older ones, `text` for what was shown as plain text, `jsonl` for the
    /// recording's own events, byte-exact, one a line
    #[arg(long, value_parser = PossibleValuesParser::new(Format::NAMES).try_map(|name| name.parse::<Format>()))]
    pub format: Format,
    /// Where to; `-` is the standard output. A file is never overwritten
    #[arg(
        short,
        long = "out",
        alias = "output-file",
        value_name = "FILE",
        default_value = "-"
    )]
    pub out: PathBuf,
    /// Include what was typed (asciicast only; jsonl always has it)
    #[arg(long)]
    pub input: bool,
    /// Which terminal of the session; without it, the client's own (0) and the
    /// pipes of a session without a terminal
    #[arg(long, value_name = "N")]
    pub terminal: Option<u32>,
}

const VERIFY_HELP: &str = "\
Checked are the signature of every manifest, the key that made it and the time it
was valid, every chunk, the hash chain, and the host's digest chain: what is
missing, changed, cut off, reordered, copied, rolled back or sealed again is named.

Without --keys the keys come from the key logs in the store itself. Export them
once with `auditty keys export`, keep them elsewhere, and give them back.

Through a collector, or with --collector beside --store, the store is compared with
what hosts have registered there: their keys (the first one of a host counts, and
what it certifies), their newest digests, and the chain heads that the collector
signed while sessions ran. `all` expects every host of the collector in the store.

The newest digest of each host is printed as HOST:LOG:NUMBER:SHA256. Given back
with --seen, a store that was rolled back to an earlier copy is noticed as well.

Exit codes: 0 verified, 1 something is wrong, 2 it could not be checked.";

/// `auditty verify`.
#[derive(Args, Debug)]
#[command(after_help = VERIFY_HELP)]
#[command(group(clap::ArgGroup::new("scope").required(true).multiple(true)))]
pub struct Verify {
    /// `all`: the whole store
    #[arg(value_parser = ["all"], group = "scope", conflicts_with_all = ["session", "host", "date"])]
    pub all: Option<String>,
    /// One session
    #[arg(long, group = "scope", conflicts_with_all = ["host", "date"])]
    pub session: Option<String>,
    /// One host, by its host id
    #[arg(long, value_name = "HOST_ID", group = "scope")]
    pub host: Option<String>,
    /// Sessions that began on this UTC date, on every host or one
    #[arg(long, value_name = "YYYY-MM-DD", group = "scope")]
    pub date: Option<jiff::civil::Date>,
    /// Trusted keys, an OpenSSH `allowed_signers` file
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// A digest that was seen before and must still be there
    #[arg(long, value_name = "HEAD")]
    pub seen: Vec<String>,
    /// The collector's public keys, as `auditty keys collector` printed them when
    /// you trusted them; without it, the collector is asked for its key
    #[arg(long, value_name = "FILE")]
    pub collector_key: Option<PathBuf>,
    /// Tell the collector what is wrong: it becomes an alert there. Takes the role
    /// of an auditor, and --collector
    #[arg(long)]
    pub report: bool,
}

const BUNDLE_HELP: &str = "\
The archive holds the recording with its manifests and signatures, the host's key
log and digests, the collector's receipts where a collector is asked, the
session's metadata with its grant, the result of verifying it, a README, and a
script that verifies it with zstd, jq, sha256sum and ssh-keygen alone. Unpacked, its folder is a store for --store.

Exit codes: 0 done and verified, 1 done, but something is wrong with the
recording (the archive says what), 2 it could not be made.";

/// `auditty bundle`.
#[derive(Args, Debug)]
#[command(after_help = BUNDLE_HELP)]
pub struct Bundle {
    /// The session
    pub session: String,
    /// Where to: FILE.tar.zst, or FILE.tar. A file is never overwritten
    #[arg(short, long = "out", value_name = "FILE")]
    pub out: PathBuf,
    /// Trusted keys, an OpenSSH `allowed_signers` file; they go into the archive
    /// instead of those of the host's key log
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Sign the archive's list of files with your own key, an OpenSSH Ed25519
    /// key file without a passphrase
    #[arg(long, value_name = "FILE")]
    pub sign_with: Option<PathBuf>,
}

/// `auditty completions`.
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Cli, Verb};

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_anywhere() {
        let cli = Cli::parse_from(["auditty", "sessions", "--store", "/a", "--utc"]);
        assert_eq!(cli.global.store.as_deref(), Some("/a"));
        let cli = Cli::parse_from(["auditty", "--store", "/a", "show", "abcd"]);
        assert_eq!(cli.global.store.as_deref(), Some("/a"));
        assert!(matches!(cli.verb, Verb::Show(show) if show.session == "abcd"));
    }

    #[test]
    fn absurd_speeds_are_refused() {
        for speed in ["0", "-1", "1e9", "NaN", "fast"] {
            let speed = format!("--speed={speed}");
            assert!(Cli::try_parse_from(["auditty", "replay", "abcd", &speed]).is_err());
        }
        assert!(Cli::try_parse_from(["auditty", "replay", "abcd", "--speed", "2x"]).is_ok());
    }
}

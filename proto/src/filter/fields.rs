//! The fields that filters can name, and where their values are found.

use std::borrow::Cow;

use super::{EnumKind, Field, Kind, Value};
use crate::{convert::from_timestamp, names::ShortName, v1};

pub(super) const fn field<R>(
    name: &'static str,
    kind: Kind,
    values: for<'a> fn(&'a R) -> Vec<Value<'a>>,
) -> Field<R> {
    Field {
        name,
        kind,
        repeated: false,
        values,
    }
}

macro_rules! enum_kind {
    ($name:ident) => {
        Kind::Enum(EnumKind {
            prefix: <v1::$name as ShortName>::PREFIX,
            full_name: |number| Some(v1::$name::try_from(number).ok()?.as_str_name()),
        })
    };
}
pub(super) use enum_kind;

/// Fields of a session.
pub static SESSION_FIELDS: &[Field<v1::Session>] = &[
    field("session_id", Kind::Text, |s| text(&s.session_id)),
    field("user", Kind::Text, |s| {
        text(login(s).map_or("", |l| &l.user))
    }),
    field("uid", Kind::Int, |s| int(login(s).and_then(|l| l.uid))),
    field("hostname", Kind::Text, |s| {
        text(host(s).map_or("", |h| &h.hostname))
    }),
    field("host_id", Kind::Text, |s| {
        text(host(s).map_or("", |h| &h.host_id))
    }),
    field("client_address", Kind::Text, |s| {
        text(s.connection.as_ref().map_or("", |c| &c.client_address))
    }),
    field("method", enum_kind!(AuthMethod), |s| {
        enumeration(login(s).map_or(0, |l| l.method))
    }),
    field("key_fingerprint", Kind::Text, |s| {
        text(login(s).map_or("", |l| &l.key_fingerprint))
    }),
    field("certificate_id", Kind::Text, |s| {
        text(certificate(s).map_or("", |c| &c.key_id))
    }),
    field("certificate_serial", Kind::Int, |s| {
        int(certificate(s).map(|c| c.serial))
    }),
    field("ca_fingerprint", Kind::Text, |s| {
        text(certificate(s).map_or("", |c| &c.ca_fingerprint))
    }),
    field("kind", enum_kind!(SessionKind), |s| enumeration(s.kind)),
    field("state", enum_kind!(SessionState), |s| enumeration(s.state)),
    field("verdict", enum_kind!(Verdict), |s| enumeration(s.verdict)),
    field("end_reason", enum_kind!(EndReason), |s| {
        enumeration(s.end_reason)
    }),
    field("terminal", Kind::Text, |s| text(&s.terminal)),
    field("command", Kind::Text, |s| text(&s.command)),
    field("start_time", Kind::Time, |s| time(s.start_time.as_ref())),
    field("end_time", Kind::Time, |s| time(s.end_time.as_ref())),
    field("exit_code", Kind::Int, |s| int(s.exit_code)),
    field("adopted", Kind::Bool, |s| vec![Value::Bool(s.adopted)]),
    field("parent_session_id", Kind::Text, |s| {
        text(&s.parent_session_id)
    }),
    field("grant_status", enum_kind!(GrantStatus), |s| {
        enumeration(s.grant.as_ref().map_or(0, |g| g.status))
    }),
    field("request_id", Kind::Text, |s| {
        text(grant(s).map_or("", |g| &g.request_id))
    }),
    field("requester", Kind::Text, |s| {
        text(grant(s).map_or("", |g| &g.requester))
    }),
    Field {
        name: "person",
        kind: Kind::Text,
        repeated: true,
        values: persons,
    },
    Field {
        name: "approver",
        kind: Kind::Text,
        repeated: true,
        values: |s| {
            grant(s).map_or_else(Vec::new, |g| {
                g.approvers.iter().flat_map(|a| text(a)).collect()
            })
        },
    },
    Field {
        name: "label",
        kind: Kind::Text,
        repeated: true,
        values: |s| host(s).map_or_else(Vec::new, |h| labels(&h.labels)),
    },
    field("access_flow", Kind::Text, |s| {
        text(grant(s).map_or("", |g| &g.access_flow))
    }),
    field("ticket", Kind::Text, |s| {
        text(grant(s).map_or("", |g| &g.ticket))
    }),
];

/// Fields of a command.
pub static COMMAND_FIELDS: &[Field<v1::Command>] = &[
    field("seq", Kind::Int, |c| int(Some(c.seq))),
    field("pid", Kind::Int, |c| int(Some(c.pid))),
    field("parent_pid", Kind::Int, |c| int(Some(c.parent_pid))),
    field("exe", Kind::Text, |c| text(&c.exe)),
    field("filename", Kind::Text, |c| text(&c.filename)),
    field("cwd", Kind::Text, |c| text(&c.cwd)),
    field("command_line", Kind::Text, |c| {
        vec![Value::Text(command_line(c).into())]
    }),
    Field {
        name: "argument",
        kind: Kind::Text,
        repeated: true,
        values: |c| c.argv.iter().flat_map(|argument| text(argument)).collect(),
    },
    field("word", Kind::Words, |c| {
        vec![Value::Text(command_line(c).into())]
    }),
    field("uid", Kind::Int, |c| int(Some(c.uid))),
    field("euid", Kind::Int, |c| int(Some(c.euid))),
    field("login_uid", Kind::Int, |c| int(c.login_uid)),
    field("exit_code", Kind::Int, |c| int(c.exit_code)),
    field("signal", Kind::Int, |c| int(c.signal)),
    field("start_time", Kind::Time, |c| time(c.start_time.as_ref())),
    field("content_withheld", Kind::Bool, |c| {
        vec![Value::Bool(c.content_withheld)]
    }),
];

/// Fields of a command that a host may keep out of its reports.
pub const WITHHELD_FIELDS: [&str; 6] =
    ["exe", "filename", "cwd", "command_line", "argument", "word"];

/// The arguments of a command with one space between them: for searching, not
/// for a shell, and not fit for a terminal.
pub fn command_line(command: &v1::Command) -> String {
    command.argv.join(" ")
}

/// A label of a host as one text.
pub(super) fn label(key: &str, value: &str) -> String {
    format!("{key}={value}")
}

/// Labels of a host as texts.
pub(super) fn labels<'a>(
    labels: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Vec<Value<'a>> {
    let labels = labels.into_iter();
    let texts = labels.map(|(key, value)| Value::Text(label(key, value).into()));
    texts.collect()
}

fn login(session: &v1::Session) -> Option<&v1::Login> {
    session.login.as_ref()
}

fn host(session: &v1::Session) -> Option<&v1::Host> {
    session.host.as_ref()
}

fn certificate(session: &v1::Session) -> Option<&v1::Certificate> {
    login(session)?.certificate.as_ref()
}

fn grant(session: &v1::Session) -> Option<&v1::Grant> {
    session.grant.as_ref()?.grant.as_ref()
}

/// By which names a person is known: those of the certificate, and who asked for
/// the grant. A unix user may be several people.
fn persons(session: &v1::Session) -> Vec<Value<'_>> {
    let of_certificate = certificate(session)
        .into_iter()
        .flat_map(|certificate| certificate.principals.iter().chain([&certificate.key_id]));
    let requester = grant(session).map(|grant| &grant.requester);
    let names = of_certificate.chain(requester);
    let known = names.filter(|name| !name.is_empty());
    known.flat_map(|name| text(name)).collect()
}

pub(super) fn text(text: &str) -> Vec<Value<'_>> {
    vec![Value::Text(Cow::Borrowed(text))]
}

pub(super) fn int(int: Option<impl Into<u64>>) -> Vec<Value<'static>> {
    int.map(|int| Value::Int(int.into())).into_iter().collect()
}

pub(super) fn enumeration(number: i32) -> Vec<Value<'static>> {
    vec![Value::Enum(number)]
}

pub(super) fn time(time: Option<&prost_types::Timestamp>) -> Vec<Value<'static>> {
    let time = time.and_then(from_timestamp);
    time.map(Value::Time).into_iter().collect()
}

//! Fields of a failed login.

use super::{
    EnumKind, Field, Kind,
    fields::{enum_kind, enumeration, field, int, text, time},
};
use crate::{names::ShortName, v1};

/// Fields of a failed login.
pub static FAILED_LOGIN_FIELDS: &[Field<v1::FailedLogin>] = &[
    field("failed_login_id", Kind::Text, |l| text(&l.failed_login_id)),
    field("host_id", Kind::Text, |l| text(&l.host_id)),
    field("hostname", Kind::Text, |l| text(&l.hostname)),
    field("client_address", Kind::Text, |l| text(&l.client_address)),
    field("client_port", Kind::Int, |l| int(Some(l.client_port))),
    field("user", Kind::Text, |l| text(&l.user)),
    field("outcome", enum_kind!(LoginOutcome), |l| {
        enumeration(l.outcome)
    }),
    field("start_time", Kind::Time, |l| time(l.start_time.as_ref())),
    field("end_time", Kind::Time, |l| time(l.end_time.as_ref())),
    field("connection_count", Kind::Int, |l| {
        int(Some(l.connection_count))
    }),
    field("connection_id", Kind::Text, |l| text(&l.connection_id)),
];

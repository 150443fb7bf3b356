//! The fields of activities that filters can name. Each kind of activity has
//! some of them; the others have no value.

use super::fields::{enum_kind, enumeration, field, int, text, time};
use super::{EnumKind, Field, Kind, Value};
use crate::names::ShortName;
use crate::v1::{self, activity::Activity as Body};

/// Fields of an activity.
pub static ACTIVITY_FIELDS: &[Field<v1::Activity>] = &[
    field("seq", Kind::Int, |a| int(Some(a.seq))),
    field("time", Kind::Time, |a| time(a.time.as_ref())),
    field("pid", Kind::Int, |a| int(Some(a.pid))),
    field("kind", enum_kind!(ActivityKind), |a| enumeration(a.kind)),
    field("path", Kind::Text, |a| {
        some_text(match &a.activity {
            Some(Body::File(file)) => &file.path,
            Some(Body::Transfer(transfer)) => &transfer.path,
            Some(Body::Connect(connect)) => &connect.unix_path,
            _ => "",
        })
    }),
    field("target", Kind::Text, |a| {
        some_text(file(a).map_or("", |file| &file.target))
    }),
    field("operation", enum_kind!(FileOperation), |a| {
        some_enum(file(a).map(|file| file.operation))
    }),
    field("protocol", enum_kind!(TransferProtocol), |a| {
        some_enum(transfer(a).map(|transfer| transfer.protocol))
    }),
    field("direction", enum_kind!(TransferDirection), |a| {
        some_enum(transfer(a).map(|transfer| transfer.direction))
    }),
    field("byte_count", Kind::Int, |a| {
        int(transfer(a).map(|transfer| transfer.byte_count))
    }),
    field("errno", Kind::Int, |a| {
        let of_transfer = || transfer(a).and_then(|transfer| transfer.errno);
        int(file(a).and_then(|file| file.errno).or_else(of_transfer))
    }),
    field("role", enum_kind!(ConnectRole), |a| {
        some_enum(connect(a).map(|connect| connect.role))
    }),
    field("forwarded", Kind::Bool, |a| {
        let forwarded = connect(a).map(|connect| Value::Bool(connect.forwarded));
        forwarded.into_iter().collect()
    }),
    field("local_address", Kind::Text, |a| {
        some_text(connect(a).map_or("", |connect| &connect.local_address))
    }),
    field("local_port", Kind::Int, |a| {
        int(connect(a).map(|connect| connect.local_port))
    }),
    field("remote_address", Kind::Text, |a| {
        some_text(connect(a).map_or("", |connect| &connect.remote_address))
    }),
    field("remote_port", Kind::Int, |a| {
        int(connect(a).map(|connect| connect.remote_port))
    }),
    field("relation", enum_kind!(LinkRelation), |a| {
        some_enum(link(a).map(|link| link.relation))
    }),
    field("linked_session_id", Kind::Text, |a| {
        some_text(link(a).map_or("", |link| &link.session_id))
    }),
    field("handoff_to", enum_kind!(HandoffTo), |a| match &a.activity {
        Some(Body::Handoff(handoff)) => enumeration(handoff.to),
        _ => Vec::new(),
    }),
];

fn file(activity: &v1::Activity) -> Option<&v1::FileAccess> {
    match &activity.activity {
        Some(Body::File(file)) => Some(file),
        _ => None,
    }
}

fn transfer(activity: &v1::Activity) -> Option<&v1::Transfer> {
    match &activity.activity {
        Some(Body::Transfer(transfer)) => Some(transfer),
        _ => None,
    }
}

fn connect(activity: &v1::Activity) -> Option<&v1::Connect> {
    match &activity.activity {
        Some(Body::Connect(connect)) => Some(connect),
        _ => None,
    }
}

fn link(activity: &v1::Activity) -> Option<&v1::Link> {
    match &activity.activity {
        Some(Body::Link(link)) => Some(link),
        _ => None,
    }
}

/// Empty means that it has none.
fn some_text(value: &str) -> Vec<Value<'_>> {
    match value {
        "" => Vec::new(),
        value => text(value),
    }
}

fn some_enum(number: Option<i32>) -> Vec<Value<'static>> {
    number.map_or_else(Vec::new, enumeration)
}

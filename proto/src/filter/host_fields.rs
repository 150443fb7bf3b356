//! Fields of a host.

use super::{
    Field, Kind,
    fields::{field, labels, text, time},
};
use crate::v1;

/// Fields of a host.
pub static HOST_FIELDS: &[Field<v1::KnownHost>] = &[
    field("host_id", Kind::Text, |h| {
        text(host(h).map_or("", |host| &host.host_id))
    }),
    field("hostname", Kind::Text, |h| {
        text(host(h).map_or("", |host| &host.hostname))
    }),
    field("agent_version", Kind::Text, |h| text(&h.agent_version)),
    field("capture_mode", Kind::Text, |h| {
        text(host(h).map_or("", |host| &host.capture_mode))
    }),
    field("first_heard_time", Kind::Time, |h| {
        time(h.first_heard_time.as_ref())
    }),
    field("last_heard_time", Kind::Time, |h| {
        time(h.last_heard_time.as_ref())
    }),
    Field {
        name: "label",
        kind: Kind::Text,
        repeated: true,
        values: |h| host(h).map_or_else(Vec::new, |host| labels(&host.labels)),
    },
];

fn host(known: &v1::KnownHost) -> Option<&v1::Host> {
    known.host.as_ref()
}

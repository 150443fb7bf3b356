//! Fields of an alert.

use super::{
    EnumKind, Field, Kind,
    fields::{enum_kind, enumeration, field, labels, text, time},
};
use crate::{names::ShortName, v1};

/// Fields of an alert.
pub static ALERT_FIELDS: &[Field<v1::Alert>] = &[
    field("alert_id", Kind::Text, |a| text(&a.alert_id)),
    field("kind", enum_kind!(AlertKind), |a| enumeration(a.kind)),
    field("time", Kind::Time, |a| time(a.time.as_ref())),
    field("summary", Kind::Text, |a| text(&a.summary)),
    field("host_id", Kind::Text, |a| text(&a.host_id)),
    field("hostname", Kind::Text, |a| text(&a.hostname)),
    field("session_id", Kind::Text, |a| text(&a.session_id)),
    field("user", Kind::Text, |a| text(&a.user)),
    field("rule", Kind::Text, |a| text(&a.rule)),
    Field {
        name: "label",
        kind: Kind::Text,
        repeated: true,
        values: |a| labels(&a.labels),
    },
];

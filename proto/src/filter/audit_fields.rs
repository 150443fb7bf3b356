//! Fields of an audit record.

use super::{
    Field, Kind, Value,
    fields::{field, text, time},
};
use crate::v1;

/// Fields of an audit record.
pub static AUDIT_FIELDS: &[Field<v1::AuditRecord>] = &[
    field("audit_id", Kind::Text, |r| text(&r.audit_id)),
    field("time", Kind::Time, |r| time(r.time.as_ref())),
    field("caller", Kind::Text, |r| text(&r.caller)),
    field("address", Kind::Text, |r| text(&r.address)),
    field("method", Kind::Text, |r| text(&r.method)),
    field("outcome", Kind::Text, |r| text(&r.outcome)),
    field("refused", Kind::Bool, |r| vec![Value::Bool(refused(r))]),
    field("request", Kind::Text, |r| text(&r.request)),
    field("purpose", Kind::Text, |r| text(&r.purpose)),
];

/// The caller may not do it, may not do so much of it, or is nobody.
fn refused(record: &v1::AuditRecord) -> bool {
    ["PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED"].contains(&&*record.outcome)
}

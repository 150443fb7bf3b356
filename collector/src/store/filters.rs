//! Filters as SQL. Names come from the tables of fields, which are constants;
//! values are bound, never spelled out.

use auditty_proto::filter::{Comparison, Field, Filter, Kind, Operator, Value};

use jiff::Timestamp;

use super::database::{Bound, Sql};

/// Which table holds a field, by its alias.
pub(super) type TableOf = fn(&str) -> &'static str;

/// Adds ` AND …` for every comparison.
pub(super) fn push_filter<R>(sql: &mut Sql, filter: &Filter<R>, table_of: TableOf) {
    for comparison in &filter.comparisons {
        push_one(sql, comparison, table_of);
    }
}

/// Adds ` AND …` for a comparison.
pub(super) fn push_one<R>(sql: &mut Sql, comparison: &Comparison<R>, table_of: TableOf) {
    sql.push(" AND ");
    let table = table_of(comparison.field.name);
    if comparison.field.repeated {
        push_any(sql, comparison, table);
    } else {
        push_comparison(sql, comparison, comparison.operator, table);
    }
}

/// A repeated field has a table of its own, such as `session_{field}s`.
fn push_any<R>(sql: &mut Sql, comparison: &Comparison<R>, table: &str) {
    let (of, which) = match table {
        "h" => ("host_", "v.tenant = h.tenant AND v.host_id = h.host_id"),
        "a" => ("alert_", "v.revision = a.revision"),
        _ => ("session_", "v.session_id = s.session_id"),
    };
    let operator = match comparison.operator {
        Operator::NotEqual => {
            sql.push("NOT ");
            Operator::Equal
        }
        operator => operator,
    };
    sql.push("EXISTS (SELECT 1 FROM ")
        .push(of)
        .push(comparison.field.name)
        .push("s v WHERE ")
        .push(which)
        .push(" AND ");
    push_comparison(sql, comparison, operator, "v");
    sql.push(")");
}

fn push_comparison<R>(sql: &mut Sql, comparison: &Comparison<R>, operator: Operator, table: &str) {
    let column = format!("{table}.\"{}\"", comparison.field.name);
    let symbol = match (operator, &comparison.value) {
        (Operator::Contains, Value::Text(part)) => {
            sql.contains(&column, part);
            return;
        }
        (Operator::NotEqual, _) => "IS DISTINCT FROM",
        (operator, _) => operator.symbol(),
    };
    sql.push(&column).push(" ").push(symbol).push(" ");
    push_value(sql, &comparison.value);
}

/// Binds the one value of a field in a record, or NULL.
pub(super) fn push_field<R>(sql: &mut Sql, field: &Field<R>, record: &R) {
    match (field.values)(record).first() {
        Some(value) => push_value(sql, value),
        // PostgreSQL wants to know what is not there.
        None => {
            sql.bind(match field.kind {
                Kind::Text => Bound::Text(None),
                _ => Bound::Int(None),
            });
        }
    }
}

/// Binds a value in the form the tables hold.
pub(super) fn push_value(sql: &mut Sql, value: &Value<'_>) {
    match value {
        Value::Text(text) => sql.bind(&**text),
        Value::Int(int) => sql.bind_unsigned(*int),
        Value::Time(time) => sql.bind(time_ns(time)),
        Value::Bool(bool) => sql.bind(i64::from(*bool)),
        Value::Enum(number) => sql.bind(i64::from(*number)),
    };
}

/// Nanoseconds since 1970. Stored times lie strictly between the two ends.
pub(super) fn time_ns(time: &Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(match time.as_second() {
        ..0 => i64::MIN,
        0.. => i64::MAX,
    })
}

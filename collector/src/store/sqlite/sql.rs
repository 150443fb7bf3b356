//! Filters as SQL. Names come from the tables of fields, which are constants;
//! values are bound, never spelled out.

use auditty_proto::filter::{Comparison, Field, Filter, Operator, Value};
use sqlx::{QueryBuilder, Sqlite};

/// Which column holds a field: table alias and name.
pub(super) type TableOf = fn(&str) -> &'static str;

/// Adds ` AND …` for every comparison.
pub(super) fn push_filter<R>(
    query: &mut QueryBuilder<Sqlite>,
    filter: &Filter<R>,
    table_of: TableOf,
) {
    for comparison in &filter.comparisons {
        query.push(" AND ");
        if comparison.field.repeated {
            push_any(query, comparison);
        } else {
            let table = table_of(comparison.field.name);
            push_comparison(query, comparison, comparison.operator, table);
        }
    }
}

/// A repeated field has a table `session_{field}s` of its own.
fn push_any<R>(query: &mut QueryBuilder<Sqlite>, comparison: &Comparison<R>) {
    let operator = match comparison.operator {
        Operator::NotEqual => {
            query.push("NOT ");
            Operator::Equal
        }
        operator => operator,
    };
    let name = comparison.field.name;
    query
        .push("EXISTS (SELECT 1 FROM session_")
        .push(name)
        .push("s v WHERE v.session_id = s.session_id AND ");
    push_comparison(query, comparison, operator, "v");
    query.push(")");
}

fn push_comparison<R>(
    query: &mut QueryBuilder<Sqlite>,
    comparison: &Comparison<R>,
    operator: Operator,
    table: &str,
) {
    let column = format!("{table}.\"{}\"", comparison.field.name);
    let symbol = match operator {
        Operator::Contains => {
            // `lower` of SQLite changes ASCII letters only, as the filter
            // language has it.
            query.push("instr(lower(").push(column).push("), ");
            let part = match &comparison.value {
                Value::Text(part) => Value::Text(part.to_ascii_lowercase().into()),
                value => value.clone(),
            };
            push_value(query, &part);
            query.push(") > 0");
            return;
        }
        Operator::NotEqual => "IS DISTINCT FROM",
        operator => operator.symbol(),
    };
    query.push(column).push(" ").push(symbol).push(" ");
    push_value(query, &comparison.value);
}

/// Binds the one value of a field in a record, or NULL.
pub(super) fn push_field<R>(query: &mut QueryBuilder<Sqlite>, field: &Field<R>, record: &R) {
    match (field.values)(record).first() {
        Some(value) => push_value(query, value),
        None => {
            query.push_bind(None::<i64>);
        }
    }
}

/// Binds a value in the form the tables hold.
pub(super) fn push_value(query: &mut QueryBuilder<Sqlite>, value: &Value<'_>) {
    match value {
        Value::Text(text) => query.push_bind(text.clone().into_owned()),
        Value::Int(int) => match i64::try_from(*int) {
            Ok(int) => query.push_bind(int),
            // Text sorts after all integers, and so do these.
            Err(_) => query.push_bind(format!("{int:020}")),
        },
        // Stored times lie strictly between the two ends.
        Value::Time(time) => query.push_bind(i64::try_from(time.as_nanosecond()).unwrap_or(
            match time.as_second() {
                ..0 => i64::MIN,
                0.. => i64::MAX,
            },
        )),
        Value::Bool(bool) => query.push_bind(*bool),
        Value::Enum(number) => query.push_bind(*number),
    };
}

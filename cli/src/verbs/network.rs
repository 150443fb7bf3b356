//! `auditty network`: a session's network connections and forwards.

use auditty_proto::v1::{self, activity::Activity};

use super::activities::{List, beginning, lasted};
use crate::config::Config;
use crate::describe;
use crate::table::{Column, Text};

pub(super) const LIST: List = List {
    kind: "connect",
    none: "no network connections",
    columns: &[
        Column::number("SEQ"),
        Column::whole("TIME"),
        Column::number("PID"),
        Column::whole("BY"),
        Column::whole("ROLE"),
        Column::text("LOCAL"),
        Column::text("REMOTE"),
        Column::number("SENT"),
        Column::number("RECEIVED"),
        Column::number("LASTED"),
    ],
    row,
};

fn row(activity: &v1::Activity, config: &Config) -> Vec<Text> {
    let mut cells = beginning(activity, config);
    if let Some(Activity::Connect(connect)) = &activity.activity {
        let by = match connect.forwarded {
            true => "forward",
            false => "process",
        };
        // A Unix socket has one name: that of the side that waits.
        let unix = connect.unix_path.as_str();
        let begins = connect.role() == v1::ConnectRole::Connect;
        let (local, remote) = match (unix, begins) {
            ("", _) => (
                describe::address(&connect.local_address, connect.local_port),
                describe::address(&connect.remote_address, connect.remote_port),
            ),
            (path, true) => (String::new(), path.to_owned()),
            (path, false) => (path.to_owned(), String::new()),
        };
        let bytes = |count: Option<u64>| count.map_or_else(String::new, describe::bytes);
        cells.extend([
            by.into(),
            describe::name::<v1::ConnectRole>(connect.role).into(),
            local.into(),
            remote.into(),
            bytes(connect.sent_byte_count).into(),
            bytes(connect.received_byte_count).into(),
            lasted(connect.duration).into(),
        ]);
    }
    cells
}

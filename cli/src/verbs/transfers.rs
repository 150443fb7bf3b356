//! `auditty transfers`: which files went over the connection.

use auditty_proto::v1::{self, activity::Activity};

use super::activities::{List, beginning, lasted, path};
use crate::config::Config;
use crate::describe;
use crate::table::{Column, Text};

pub(super) const LIST: List = List {
    kind: "transfer",
    none: "no transfers",
    columns: &[
        Column::number("SEQ"),
        Column::whole("TIME"),
        Column::number("PID"),
        Column::whole("PROTOCOL"),
        Column::whole("DIRECTION"),
        Column::number("SIZE"),
        Column::number("MODE"),
        Column::number("LASTED"),
        Column::whole("RESULT"),
        Column::text("PATH"),
    ],
    row,
};

fn row(activity: &v1::Activity, config: &Config) -> Vec<Text> {
    let mut cells = beginning(activity, config);
    if let Some(Activity::Transfer(transfer)) = &activity.activity {
        let mode = transfer.mode.map(|mode| format!("{mode:04o}"));
        cells.extend([
            describe::name::<v1::TransferProtocol>(transfer.protocol).into(),
            describe::name::<v1::TransferDirection>(transfer.direction).into(),
            describe::bytes(transfer.byte_count).into(),
            mode.unwrap_or_default().into(),
            lasted(transfer.duration).into(),
            describe::result(transfer.errno),
            path(activity, transfer.path.clone()),
        ]);
    }
    cells
}

//! `auditty files`: what a session did to files.

use auditty_proto::v1::{self, activity::Activity};

use super::activities::{self, List, beginning};
use crate::config::Config;
use crate::describe;
use crate::table::{Column, Text};

pub(super) const LIST: List = List {
    kind: "file",
    none: "no file activity",
    columns: &[
        Column::number("SEQ"),
        Column::whole("TIME"),
        Column::number("PID"),
        Column::whole("OPERATION"),
        Column::whole("RESULT"),
        Column::text("PATH"),
    ],
    row,
};

fn row(activity: &v1::Activity, config: &Config) -> Vec<Text> {
    let mut cells = beginning(activity, config);
    if let Some(Activity::File(file)) = &activity.activity {
        cells.push(operation(file).into());
        cells.push(describe::result(file.errno));
        cells.push(activities::path(activity, path(file)));
    }
    cells
}

fn operation(file: &v1::FileAccess) -> String {
    let name = describe::name::<v1::FileOperation>(file.operation);
    let id = |id: Option<u32>| id.map_or_else(String::new, |id| id.to_string());
    match (file.operation(), file.mode) {
        (v1::FileOperation::Chmod, Some(mode)) => format!("{name} {mode:04o}"),
        (v1::FileOperation::Chown, _) => format!("{name} {}:{}", id(file.uid), id(file.gid)),
        _ => name,
    }
}

fn path(file: &v1::FileAccess) -> String {
    let mut path = file.path.clone();
    if !file.target.is_empty() {
        path.push_str(&format!(" -> {}", file.target));
    }
    if file.path_as_given {
        path.push_str(" (as given)");
    }
    path
}

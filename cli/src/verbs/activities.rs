//! What the lists of activities have in common.

use auditty_proto::v1;

use crate::args::Activities;
use crate::config::Config;
use crate::failure::Result;
use crate::source::Source;
use crate::table::{self, Column, Text};
use crate::{describe, moment, out, paging};

/// One of the lists.
pub(super) struct List {
    /// Short name of the kind of activity.
    pub kind: &'static str,
    /// What is said when there is none.
    pub none: &'static str,
    pub columns: &'static [Column],
    pub row: fn(&v1::Activity, &Config) -> Vec<Text>,
}

pub(super) async fn run(args: &Activities, list: &List, config: &Config) -> Result<()> {
    let mut source = Source::open(config).await?;
    let session = source.find_session(&args.session).await?;
    let mut filter = format!("kind = {}", list.kind);
    if let Some(more) = &args.page.filter {
        filter = format!("{filter} AND {more}");
    }
    let request = v1::ListActivitiesRequest {
        parent: session.name,
        page_size: args.page.paging.limit.into(),
        filter,
        ..Default::default()
    };
    let answer = paging::list(&args.page.paging, async |page_token| {
        let request = request.clone();
        source
            .list_activities(v1::ListActivitiesRequest {
                page_token,
                ..request
            })
            .await
    })
    .await?;
    if config.json {
        out::json(&answer)?;
    } else if answer.activities.is_empty() {
        out::print(&format!("{}\n", list.none))?;
    } else {
        let rows = answer.activities.iter();
        let rows = rows.map(|activity| (list.row)(activity, config)).collect();
        out::print(&table::render(list.columns, rows, config.colour))?;
        super::sessions::more(&answer.next_page_token);
        let mut activities = answer.activities.iter();
        super::tell_withheld(activities.any(|activity| activity.content_withheld));
    }
    super::report(&mut source)
}

/// Number, time of day and process, with which every row begins.
pub(super) fn beginning(activity: &v1::Activity, config: &Config) -> Vec<Text> {
    let at = moment::from_proto(activity.time.as_ref());
    vec![
        activity.seq.to_string().into(),
        at.map_or_else(String::new, |at| config.zone.time_of_day(at))
            .into(),
        activity.pid.to_string().into(),
    ]
}

/// A path, where the source has it.
pub(super) fn path(activity: &v1::Activity, path: String) -> Text {
    match activity.content_withheld && path.is_empty() {
        true => describe::WITHHELD.into(),
        false => path.into(),
    }
}

/// A length of time, or nothing.
pub(super) fn lasted(duration: Option<prost_types::Duration>) -> String {
    let lasted = duration.and_then(|lasted| std::time::Duration::try_from(lasted).ok());
    lasted.map_or_else(String::new, moment::short)
}

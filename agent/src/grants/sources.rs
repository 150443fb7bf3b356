//! All sources of grants together.

use std::collections::BTreeSet;
use std::path::Path;

use auditty_grants::{GrantBook, one_of_each};

use super::{Followed, GrantFolder};

/// Most request ids of files that are remembered while some file cannot be read.
const MAX_REMEMBERED: usize = 100_000;

/// The directory of files and the collector.
#[derive(Debug)]
pub struct Sources {
    folder: GrantFolder,
    followed: Followed,
    /// What stood in files when all of them could be read, and since then.
    in_files: BTreeSet<String>,
}

impl Sources {
    /// Reads the files once; the collector's grants are those that are followed.
    pub fn new(directory: &Path, followed: Followed) -> Self {
        let mut folder = GrantFolder::new(directory);
        folder.refresh();
        tell(&folder);
        Self {
            folder,
            followed,
            in_files: BTreeSet::new(),
        }
    }

    /// The grants, where they changed since the last book.
    pub fn refresh(&mut self) -> Option<GrantBook> {
        let files = self.folder.refresh();
        if files {
            tell(&self.folder);
        }
        let collector = self.followed.take_changed();
        (files || collector).then(|| self.book())
    }

    /// All grants there are. What was in a file and is in no source any more is
    /// withdrawn, if every file can be read, whatever the collector does. What
    /// only the collector could have told is not while it has not told all.
    pub fn book(&mut self) -> GrantBook {
        let (told, complete) = self.followed.rules();
        let readable = self.folder.errors().is_empty();
        let files: Vec<_> = self.folder.rules().cloned().collect();
        let ids = files.iter().map(|rule| rule.grant.request_id.clone());
        let ids: BTreeSet<String> = ids.collect();
        let mut gone = BTreeSet::new();
        if readable {
            gone = std::mem::replace(&mut self.in_files, ids);
            gone.retain(|id| !self.in_files.contains(id));
        } else {
            let room = MAX_REMEMBERED.saturating_sub(self.in_files.len());
            self.in_files.extend(ids.into_iter().take(room));
        }
        for rule in &told {
            gone.remove(&rule.grant.request_id);
        }
        GrantBook::new(one_of_each(files, told), complete && readable).without(gone)
    }
}

fn tell(folder: &GrantFolder) {
    for error in folder.errors() {
        tracing::error!(%error, "a grant file is not used");
    }
    let count = folder.rules().count();
    tracing::info!(grants = count, directory = %folder.directory().display(), "grants read");
}

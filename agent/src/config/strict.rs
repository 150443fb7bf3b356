//! `[strict]`: who gets no session that nothing records.

use std::ffi::CString;
use std::time::Duration;

use nix::unistd::{Group, User, getgrouplist};
use toml::Spanned;

use super::error::{ConfigError, Source};
use super::raw::RawStrict;

const SECOND: Duration = Duration::from_secs(1);

/// Who is refused while nothing records, and who is let in all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strict {
    users: Vec<Who>,
    break_glass: Vec<Who>,
    end_after: Duration,
}

/// A user or a group of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    User(String),
    Group(String),
}

impl Strict {
    pub(super) fn check(raw: RawStrict, source: &Source<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            users: list("strict.users", raw.users, source)?,
            break_glass: list("strict.break_glass", raw.break_glass, source)?,
            end_after: source.duration(
                "strict.end_after",
                raw.end_after,
                10 * SECOND,
                SECOND..=3600 * SECOND,
            )?,
        })
    }

    /// Whether this user's sessions have to be recorded. Of a group that cannot
    /// be looked up, everybody is a member here.
    pub fn holds(&self, user: &str) -> bool {
        self.users.iter().any(|who| who.is(user).unwrap_or(true))
    }

    /// Whether this user gets in even so.
    pub fn breaks_glass(&self, user: &str) -> bool {
        let mut listed = self.break_glass.iter();
        listed.any(|who| who.is(user).unwrap_or(false))
    }

    /// How long open sessions go on while nothing records them.
    pub fn end_after(&self) -> Duration {
        self.end_after
    }
}

impl Who {
    /// Whether it is this user; `None` when the system does not say.
    fn is(&self, user: &str) -> Option<bool> {
        let group = match self {
            Self::User(name) => return Some(name == user),
            Self::Group(group) => group,
        };
        let Some(group) = Group::from_name(group).ok()? else {
            return Some(false);
        };
        let Some(account) = User::from_name(user).ok()? else {
            return Some(false);
        };
        let name = CString::new(user).ok()?;
        let groups = getgrouplist(&name, account.gid).ok()?;
        Some(groups.contains(&group.gid))
    }
}

fn list(
    key: &str,
    names: Option<Vec<Spanned<String>>>,
    source: &Source<'_>,
) -> Result<Vec<Who>, ConfigError> {
    let who = |name: Spanned<String>| match name.get_ref().strip_prefix('@') {
        Some("") => Err(source.rejected(key, name.span(), "\"user\" or \"@group\"")),
        Some(group) => Ok(Who::Group(group.to_owned())),
        None if name.get_ref().is_empty() => {
            Err(source.rejected(key, name.span(), "\"user\" or \"@group\""))
        }
        None => Ok(Who::User(name.into_inner())),
    };
    names.unwrap_or_default().into_iter().map(who).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_held_by_default_and_groups_are_the_systems() {
        assert!(!Strict::default().holds("root"));
        let strict = Strict {
            users: vec![Who::User("ana".into()), Who::Group("root".into())],
            break_glass: vec![Who::Group("no-such-group".into())],
            ..Strict::default()
        };
        assert!(strict.holds("ana") && strict.holds("root"));
        assert!(!strict.holds("nobody"));
        assert!(!strict.breaks_glass("root"));
    }
}

//! What protects the objects of a store, as far as its writer can see.

use std::fmt;

use super::RetentionMode;

/// What a store says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Whether an object that is put again under its key stays beside the new
    /// one.
    pub versioning: Setting<bool>,
    /// What keeps objects from being deleted.
    pub lock: Setting<Lock>,
    /// How the server encrypts: `AES256`, or `aws:kms` with its key.
    pub encryption: Setting<String>,
    /// What is not as the settings of the writer ask for; empty when all is
    /// well.
    pub problems: Vec<String>,
}

/// A setting of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Setting<T> {
    /// There is no such setting here.
    #[default]
    None,
    /// It is this.
    Is(T),
    /// The writer cannot see it, and why.
    Hidden(String),
}

/// Object Lock of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Off: whoever has the right deletes objects for good.
    Off,
    /// On, without a retention of its own: objects are only locked where the
    /// writer asks for it.
    WithoutDefault,
    /// Every object is locked, for this many days where that is known.
    For(RetentionMode, Option<u32>),
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::WithoutDefault => f.write_str("on, without a default retention"),
            Self::For(mode, None) => write!(f, "{mode}"),
            Self::For(mode, Some(days)) => write!(f, "{mode}, {days} days"),
        }
    }
}

/// `versioning on; Object Lock compliance, 30 days; encryption AES256`
impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            versioning,
            lock,
            encryption,
            problems: _,
        } = self;
        let mut parts = Vec::new();
        match versioning {
            Setting::None => {}
            Setting::Is(true) => parts.push("versioning on".to_owned()),
            Setting::Is(false) => parts.push("versioning off".to_owned()),
            Setting::Hidden(why) => parts.push(format!("versioning unknown ({why})")),
        }
        match lock {
            Setting::None => {}
            Setting::Is(lock) => parts.push(format!("Object Lock {lock}")),
            Setting::Hidden(why) => parts.push(format!("Object Lock unknown ({why})")),
        }
        match encryption {
            Setting::None => {}
            Setting::Is(how) => parts.push(format!("encryption {how}")),
            Setting::Hidden(why) => parts.push(format!("encryption unknown ({why})")),
        }
        f.write_str(&parts.join("; "))
    }
}

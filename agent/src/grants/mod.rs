//! Where grants come from: a directory of files ([`GrantFolder`]), and the
//! collector ([`Follower`]); [`Sources`] is both. What they mean is in the crate
//! `auditty-grants`.

mod folder;
mod follow;
mod kept;
mod known;
mod sources;
#[cfg(test)]
mod tests;

pub use folder::GrantFolder;
pub use follow::{Followed, Follower, kept_grants};
pub use sources::Sources;

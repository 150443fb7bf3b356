//! buf, the linter for the protobuf schemas: from npm where npm is.

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace;

/// The version that lints the schemas.
pub const VERSION: &str = "1.75.0";

/// Why there is no linter.
pub const SKIPPED: &str = "buf comes from npm, and npm is not installed";

/// Where setup puts it.
pub fn folder() -> Result<PathBuf> {
    Ok(workspace::tools()?.join("buf"))
}

/// The program.
pub fn program() -> Result<PathBuf> {
    Ok(folder()?.join("node_modules/.bin/buf"))
}

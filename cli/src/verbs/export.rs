//! STUB
use crate::args::Export;
use crate::config::Config;
use crate::failure::{Failure, Result};

pub(super) async fn run(_args: &Export, _config: &Config) -> Result<()> {
    Err(Failure::error("stub"))
}

//! From settings to a gateway that is ready.

use crate::log;
use crate::settings::Loaded;

/// Runs the gateway until it is told to stop.
pub(crate) fn run(loaded: &Loaded) -> Result<(), String> {
    log::start(&loaded.settings);
    Err(format!("the rest of the house is still being built: {}", log::READY))
}

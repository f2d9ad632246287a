//! The log, on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::{LogFormat, Settings};

/// The target of what no filter takes away: the ready line, for which whoever started the gateway may wait, and the
/// reason why it could not start. It is outside of every filter's reach because no part of the code is called so.
pub(crate) const ALWAYS: &str = "gateway";

/// Sends every later event where `settings` say.
pub(crate) fn start(settings: &Settings) {
    let filter = settings.log.clone().with_target(ALWAYS, LevelFilter::INFO);
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = io::stderr().is_terminal() && !no_color;
    Registry::default().with(filter).with(layer(settings.log_format, colour)).init();
}

/// An event that cannot be written is lost without a word: the word would go to the same broken pipe, and there it
/// would be a panic.
fn layer<S>(format: LogFormat, colour: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Text => layer.with_ansi(colour).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

//! The process's signals: who asks it to end, and how urgently.

use std::io;

use tokio::signal::unix::{self, SignalKind};
use tracing::{info, warn};

use crate::state::State;

/// A signal that asks the process to end.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM, from a service manager.
    Terminate,
    /// SIGINT, from a terminal.
    Interrupt,
}

impl Signal {
    /// Its number on Linux (signal(7)).
    pub fn number(self) -> i32 {
        match self {
            Signal::Terminate => 15,
            Signal::Interrupt => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Signal::Terminate => "SIGTERM",
            Signal::Interrupt => "SIGINT",
        }
    }
}

/// The signals that are caught; they wait here from the moment this exists.
pub(crate) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// Catches them. Must be called inside a runtime.
    pub(crate) fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    /// The next signal that asks to end.
    async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Signal::Terminate,
                _ = self.interrupt.recv() => return Signal::Interrupt,
                _ = self.hangup.recv() => {
                    info!("SIGHUP: settings are read at start only; restart to change them");
                }
            }
        }
    }
}

/// Begins the drain at the first signal and returns at the second.
pub(crate) async fn second(mut signals: Signals, state: &State) -> Signal {
    let first = signals.next().await;
    info!(signal = first.name(), "draining: not ready any more; a second signal ends the process at once");
    state.begin_drain();
    let second = signals.next().await;
    warn!(signal = second.name(), "a second signal: ending at once");
    second
}

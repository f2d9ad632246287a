//! Scenarios: what is opened, said and expected. Each is a file of its own; all share the engine.

pub(crate) mod echo;
pub(crate) mod fanout;
pub(crate) mod idle;

use serde::{Deserialize, Serialize};

use crate::control::{Control, Stage};
use crate::dialect::{Format, Opening};
use crate::links::Links;
use crate::pattern::{Broken, Pattern, Stamp};
use crate::report::Part;

/// What one thread does in a run.
pub(crate) trait Scenario: Send {
    /// How link number `number` is opened.
    fn opening(&self, number: u32) -> Opening;

    /// Takes note that a link opened at `now`, which was to be opened at `due`.
    fn opened(&mut self, _links: &mut Links, _link: u32, _due: u64, _now: u64, _part: &mut Part) {}

    /// Takes note that a link has ended. Whether that is to be so; if not, it is counted as a fault, or ends the run if
    /// the link had never opened.
    fn ended(&mut self, _links: &mut Links, _link: u32, end: End<'_>, _now: u64, _part: &mut Part) -> bool {
        matches!(end, End::Left)
    }

    /// Takes a message that came at `now`.
    fn hear(
        &mut self,
        links: &mut Links,
        link: u32,
        format: Format,
        payload: &[u8],
        now: u64,
        part: &mut Part,
    );

    /// Speaks, after every batch of events, and adds what it has done to `control`.
    fn turn(&mut self, stage: Stage, links: &mut Links, control: &Control, part: &mut Part) -> Turn;

    /// At the end: what is missing.
    fn report(&mut self, control: &Control, part: &mut Part);
}

/// How a link has ended.
#[derive(Copy, Clone, Debug)]
pub(crate) enum End<'a> {
    /// It never opened.
    Refused(&'a str),
    /// The server ended it.
    Cut(&'a str),
    /// It was to leave, and has.
    Left,
}

/// What a turn came to.
#[derive(Copy, Clone, Default)]
pub(crate) struct Turn {
    /// When the next one is due, if nothing happens before.
    pub(crate) wake_at: Option<u64>,
    /// Whether this thread has sent all that it is to send.
    pub(crate) finished: bool,
    /// Whether, after that, it has heard all that it is to hear.
    pub(crate) settled: bool,
}

/// How long a scenario sends: until either is reached.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Extent {
    /// How many messages, all publishers together.
    pub(crate) count: Option<u64>,
    /// For how long, in nanoseconds.
    pub(crate) nanos: Option<u64>,
}

/// A scenario and its options.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Many hear what few say.
    Fanout(fanout::Options),
    /// Everyone hears what they said.
    Echo(echo::Options),
    /// Nearly nothing is said.
    Idle(idle::Options),
}

impl Kind {
    /// How many links are spread over all threads.
    pub(crate) fn links(&self) -> u32 {
        match self {
            Kind::Fanout(options) => options.subscribers,
            Kind::Echo(options) => options.connections,
            Kind::Idle(options) => options.connections,
        }
    }

    /// How many more the first thread has; their numbers follow on.
    pub(crate) fn publishers(&self) -> u32 {
        match self {
            Kind::Fanout(options) => options.publishers,
            Kind::Echo(_) | Kind::Idle(_) => 0,
        }
    }

    pub(crate) fn build(&self, place: Place) -> Box<dyn Scenario> {
        match self {
            Kind::Fanout(options) => Box::new(fanout::Fanout::new(options.clone(), place)),
            Kind::Echo(options) => Box::new(echo::Echo::new(options.clone(), place)),
            Kind::Idle(options) => Box::new(idle::Idle::new(options.clone(), place)),
        }
    }
}

/// Which of a run's links are a thread's.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Place {
    /// The thread, counted over all processes.
    pub(crate) thread: u32,
    /// How many threads there are in all processes.
    pub(crate) threads: u32,
    /// How many links are spread over them.
    pub(crate) links: u32,
    /// How many more the first thread has.
    pub(crate) publishers: u32,
}

impl Place {
    /// The number, in the run, of the thread's link `index`.
    pub(crate) fn number(&self, index: u32) -> u32 {
        let spread = self.spread_below(self.links);
        if index < spread { self.thread + index * self.threads } else { self.links + index - spread }
    }

    /// How many of the thread's links have a number below `target`.
    pub(crate) fn count_below(&self, target: u32) -> u32 {
        let publishers =
            if self.thread == 0 { target.saturating_sub(self.links).min(self.publishers) } else { 0 };
        self.spread_below(target.min(self.links)) + publishers
    }

    /// How many links the thread has.
    pub(crate) fn count(&self) -> u32 {
        self.count_below(u32::MAX)
    }

    fn spread_below(&self, target: u32) -> u32 {
        target.saturating_sub(self.thread).div_ceil(self.threads)
    }
}

/// What `payload` says, if it is one of ours and of the right kind; else it is counted and named.
fn read_message(
    pattern: &Pattern,
    expect: Format,
    format: Format,
    payload: &[u8],
    part: &mut Part,
    receiver: u32,
) -> Option<Stamp> {
    let why = match pattern.read(payload) {
        Ok(stamp) if format == expect => return Some(stamp),
        Ok(_) => format!("it is {format:?}, not {expect:?}"),
        Err(Broken::Length(bytes)) => format!("it is {bytes} bytes long"),
        Err(broken) => broken.to_string(),
    };
    part.faults.corrupted += 1;
    part.faults.name(|| format!("corrupted: a message that receiver {receiver} heard: {why}"));
    None
}

fn format_of(text: bool) -> Format {
    if text { Format::Text } else { Format::Binary }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_has_one_place() {
        for (links, publishers, threads) in [(10, 3, 1), (10, 3, 4), (3, 1, 4), (1, 0, 1), (0, 2, 2)] {
            let place = |thread| Place { thread, threads, links, publishers };
            for target in 0..=links + publishers {
                let mut numbers: Vec<u32> = (0..threads)
                    .map(place)
                    .flat_map(|place| (0..place.count_below(target)).map(move |index| place.number(index)))
                    .collect();
                numbers.sort_unstable();
                assert_eq!(numbers, (0..target).collect::<Vec<_>>(), "{links} {publishers} {threads}");
            }
        }
    }
}

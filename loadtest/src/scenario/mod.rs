//! Scenarios: what is opened, said and expected. Each is a file of its own; all share the engine.

pub(crate) mod echo;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod kill;
mod metrics;
pub(crate) mod mixed;
pub(crate) mod resume;
pub(crate) mod storm;

use serde::{Deserialize, Serialize};

use crate::control::{Control, Stage};
use crate::dialect::{Format, Manner, Opening, Told};
use crate::links::Links;
use crate::pattern::{Broken, Pattern, Stamp};
use crate::report::Part;

/// What one thread does in a run.
pub(crate) trait Scenario: Send {
    /// How link number `number` is opened.
    fn opening(&self, number: u32) -> Opening;

    /// Takes note that a link has opened, which was to be opened at `due`.
    fn opened(&mut self, _link: u32, _due: u64, _scene: &mut Scene<'_>) {}

    /// Takes note that a link has ended. Whether that is to be so; if not, it is counted as a fault, or ends the run if
    /// the link had never opened.
    fn ended(&mut self, _link: u32, end: End<'_>, _scene: &mut Scene<'_>) -> bool {
        matches!(end, End::Left)
    }

    /// Takes a message.
    fn hear(&mut self, link: u32, format: Format, payload: &[u8], scene: &mut Scene<'_>);

    /// Takes what the server tells a link of its place in its topic.
    fn told(&mut self, _link: u32, told: Told, scene: &mut Scene<'_>) {
        if let Told::Gap(_) = told {
            scene.part.found.count("gaps were told", 1);
        }
    }

    /// Speaks, after every batch of events, and tells the others what it has done.
    fn turn(&mut self, stage: Stage, scene: &mut Scene<'_>) -> Turn;

    /// At the end: what is missing.
    fn report(&mut self, control: &Control, part: &mut Part);
}

/// What a scenario plays with.
pub(crate) struct Scene<'a> {
    pub(crate) links: &'a mut Links,
    /// What it shares with the other threads.
    pub(crate) control: &'a Control,
    /// What it finds.
    pub(crate) part: &'a mut Part,
    /// The time.
    pub(crate) now: u64,
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
    /// The same, and some subscribers leave and are replaced.
    Churn(fanout::Options),
    /// The same, and some read slowly.
    Slow(fanout::Options),
    /// The same, on event streams.
    Events(fanout::Options),
    /// All of that together, and echoes.
    Mixed(mixed::Options),
    /// Everyone hears what they said.
    Echo(echo::Options),
    /// The same, through a tunnel.
    Tunnel(echo::Options),
    /// Nearly nothing is said.
    Idle(idle::Options),
    /// Connections are opened and closed.
    Storm(storm::Options),
    /// All vanish at once.
    Kill(kill::Options),
    /// All are cut off, miss something, and come back at once.
    Resume(resume::Options),
}

impl Kind {
    /// What it is, in one line.
    pub(crate) fn plan(&self) -> String {
        let (name, plan) = match self {
            Kind::Fanout(options) => ("fanout", options.plan()),
            Kind::Churn(options) => ("churn", options.plan()),
            Kind::Slow(options) => ("slow", options.plan()),
            Kind::Events(options) => ("events", options.plan()),
            Kind::Mixed(options) => ("mixed", options.plan()),
            Kind::Echo(options) => ("echo", options.plan()),
            Kind::Tunnel(options) => ("tunnel", options.plan()),
            Kind::Idle(options) => ("idle", options.plan()),
            Kind::Storm(options) => ("storm", options.plan()),
            Kind::Kill(options) => ("kill", options.plan()),
            Kind::Resume(options) => ("resume", options.plan()),
        };
        format!("{name}: {plan}")
    }

    /// What the server's work is counted in.
    pub(crate) fn unit(&self) -> &'static str {
        match self {
            Kind::Fanout(_)
            | Kind::Churn(_)
            | Kind::Slow(_)
            | Kind::Events(_)
            | Kind::Mixed(_)
            | Kind::Idle(_)
            | Kind::Resume(_) => "delivery",
            Kind::Echo(_) | Kind::Tunnel(_) => "echo",
            Kind::Storm(_) | Kind::Kill(_) => "handshake",
        }
    }

    /// How many links are spread over all threads.
    pub(crate) fn links(&self) -> u32 {
        match self {
            Kind::Fanout(options) | Kind::Churn(options) | Kind::Slow(options) | Kind::Events(options) => {
                options.subscribers
            }
            Kind::Mixed(options) => options.fanout.subscribers + options.echo.connections,
            Kind::Echo(options) | Kind::Tunnel(options) => options.connections,
            Kind::Idle(options) => options.connections,
            Kind::Storm(options) => options.connections,
            Kind::Kill(options) => options.victims + options.newcomers(),
            Kind::Resume(options) => options.travellers,
        }
    }

    /// How many more the first thread has; their numbers follow on.
    pub(crate) fn publishers(&self) -> u32 {
        match self {
            Kind::Fanout(options) | Kind::Churn(options) | Kind::Slow(options) | Kind::Events(options) => {
                options.publishers
            }
            Kind::Mixed(options) => options.fanout.publishers,
            Kind::Resume(options) => options.topics,
            Kind::Echo(_) | Kind::Tunnel(_) | Kind::Idle(_) | Kind::Storm(_) | Kind::Kill(_) => 0,
        }
    }

    /// How many more the first process has on a thread of their own; their numbers follow on those.
    pub(crate) fn aside(&self) -> u32 {
        match self {
            Kind::Resume(options) => options.aside(),
            _ => 0,
        }
    }

    /// How many threads there are where so many are asked for.
    pub(crate) fn threads(&self, asked: u32) -> u32 {
        asked + u32::from(self.aside() > 0)
    }

    /// How many of all are opened before the run begins: the first ones.
    pub(crate) fn opened_before(&self) -> u32 {
        match self {
            Kind::Storm(_) => 0,
            Kind::Kill(options) => options.victims,
            // Those that are last open with each message.
            Kind::Mixed(options) => self.links() + self.publishers() - options.fanout.posters,
            _ => self.links() + self.publishers() + self.aside(),
        }
    }

    pub(crate) fn build(&self, place: Place) -> Box<dyn Scenario> {
        match self {
            Kind::Fanout(options) | Kind::Churn(options) | Kind::Slow(options) | Kind::Events(options) => {
                Box::new(fanout::Fanout::new(options.clone(), place))
            }
            Kind::Mixed(options) => Box::new(mixed::Mixed::new(options, place)),
            Kind::Echo(options) | Kind::Tunnel(options) => {
                Box::new(echo::Echo::new(options.clone(), place, 0..place.count()))
            }
            Kind::Idle(options) => Box::new(idle::Idle::new(options.clone(), place)),
            Kind::Storm(options) => Box::new(storm::Storm::new(options.clone(), place)),
            Kind::Kill(options) => Box::new(kill::Kill::new(options.clone(), place)),
            Kind::Resume(options) if place.is_aside() => {
                Box::new(resume::Bystanders::new(options.clone(), place))
            }
            Kind::Resume(options) => Box::new(resume::Resume::new(options.clone(), place)),
        }
    }
}

/// Which of a run's links are a thread's.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Place {
    /// The thread, counted over all processes; the one aside is the last.
    pub(crate) thread: u32,
    /// How many threads there are in all processes, without the one aside.
    pub(crate) threads: u32,
    /// How many links are spread over them.
    pub(crate) links: u32,
    /// How many more the first thread has.
    pub(crate) publishers: u32,
    /// How many more the thread aside has.
    pub(crate) aside: u32,
    /// Whether there is one process only.
    pub(crate) is_alone: bool,
}

impl Place {
    /// Whether this thread is beside those that all links are spread over, with links of its own.
    pub(crate) fn is_aside(&self) -> bool {
        self.thread == self.threads
    }

    /// The number, in the run, of the thread's link `index`.
    pub(crate) fn number(&self, index: u32) -> u32 {
        if self.is_aside() {
            return self.links + self.publishers + index;
        }
        let spread = self.spread_below(self.links);
        if index < spread { self.thread + index * self.threads } else { self.links + index - spread }
    }

    /// How many of the thread's links have a number below `target`.
    pub(crate) fn count_below(&self, target: u32) -> u32 {
        if self.is_aside() {
            return target.saturating_sub(self.links + self.publishers).min(self.aside);
        }
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
    pattern: &mut Pattern,
    expect: Format,
    format: Format,
    payload: &[u8],
    manner: &Manner,
    part: &mut Part,
    receiver: u32,
) -> Option<Stamp> {
    let why = match pattern.read(payload) {
        Ok(stamp) if format == expect => return Some(stamp),
        Err(_) if manner.lenient => {
            part.found.count("messages that are none of ours", 1);
            return None;
        }
        Ok(_) => format!("it is {format:?}, not {expect:?}"),
        Err(Broken::Length(bytes)) => format!("it is {bytes} bytes long"),
        Err(broken) => broken.to_string(),
    };
    part.faults.corrupted += 1;
    part.faults.name(|| format!("corrupted: a message that receiver {receiver} heard: {why}"));
    None
}

/// Counts a message on connection `number`, in a scenario in which nobody speaks.
fn heard_what_nobody_said(number: u32, part: &mut Part) {
    part.faults.corrupted += 1;
    part.faults.name(|| format!("corrupted: connection {number} heard what nobody said"));
}

fn format_of(text: bool) -> Format {
    if text { Format::Text } else { Format::Binary }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_has_one_place() {
        for (links, publishers, aside, threads) in
            [(10, 3, 0, 1), (10, 3, 2, 4), (3, 1, 0, 4), (1, 0, 5, 1), (0, 2, 1, 2)]
        {
            let place = |thread| Place { thread, threads, links, publishers, aside, is_alone: true };
            for target in 0..=links + publishers + aside {
                let mut numbers: Vec<u32> = (0..=threads)
                    .map(place)
                    .flat_map(|place| (0..place.count_below(target)).map(move |index| place.number(index)))
                    .collect();
                numbers.sort_unstable();
                assert_eq!(
                    numbers,
                    (0..target).collect::<Vec<_>>(),
                    "{links} {publishers} {aside} {threads}"
                );
            }
        }
    }
}

//! Mixed: a fan-out to WebSockets and event streams, by WebSockets and by POST, whose subscribers come and go, and
//! echoes at the same time.

use serde::{Deserialize, Serialize};

use super::echo::{self, Echo};
use super::fanout::{self, Fanout};
use super::{End, Place, Scenario, Scene, Turn};
use crate::control::{Control, Stage};
use crate::dialect::{Format, Opening};
use crate::report::Part;

/// What a mixed run consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Options {
    /// Its links lie around those of the echoes.
    pub(crate) fanout: fanout::Options,
    pub(crate) echo: echo::Options,
}

impl Options {
    pub(crate) fn plan(&self) -> String {
        format!("{}; echo: {}", self.fanout.plan(), self.echo.plan())
    }
}

/// One thread's share.
pub(crate) struct Mixed {
    fanout: Fanout,
    echo: Echo,
    place: Place,
    /// The echoes' numbers.
    first: u32,
    end: u32,
}

impl Mixed {
    pub(crate) fn new(Options { fanout, echo }: &Options, place: Place) -> Mixed {
        let (first, end) = (fanout.subscribers, fanout.subscribers + echo.connections);
        Mixed {
            fanout: Fanout::new(fanout.clone(), place),
            echo: Echo::new(echo.clone(), place, place.count_below(first)..place.count_below(end)),
            place,
            first,
            end,
        }
    }

    /// Who a link belongs to.
    fn owner(&mut self, number: u32) -> &mut dyn Scenario {
        if (self.first..self.end).contains(&number) { &mut self.echo } else { &mut self.fanout }
    }
}

impl Scenario for Mixed {
    fn opening(&self, number: u32) -> Opening {
        if (self.first..self.end).contains(&number) {
            self.echo.opening(number)
        } else {
            self.fanout.opening(number)
        }
    }

    fn opened(&mut self, link: u32, due: u64, scene: &mut Scene<'_>) {
        self.owner(self.place.number(link)).opened(link, due, scene);
    }

    fn ended(&mut self, link: u32, end: End<'_>, scene: &mut Scene<'_>) -> bool {
        self.owner(self.place.number(link)).ended(link, end, scene)
    }

    fn hear(&mut self, link: u32, format: Format, payload: &[u8], scene: &mut Scene<'_>) {
        self.owner(self.place.number(link)).hear(link, format, payload, scene);
    }

    fn turn(&mut self, stage: Stage, scene: &mut Scene<'_>) -> Turn {
        let (one, other) = (self.fanout.turn(stage, scene), self.echo.turn(stage, scene));
        Turn {
            wake_at: [one.wake_at, other.wake_at].into_iter().flatten().min(),
            finished: one.finished && other.finished,
            settled: one.settled && other.settled,
        }
    }

    fn report(&mut self, control: &Control, part: &mut Part) {
        self.fanout.report(control, part);
        self.echo.report(control, part);
    }
}

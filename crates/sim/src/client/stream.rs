//! A reader of an event stream (WHATWG HTML §9.2).

use moongate_io::Time;
use moongate_wire::Kind;

use super::base64::unbase64;
use super::http::HeadReader;
use super::{Client, Hands};
use crate::net::End;
use crate::oracle::{Place, SessionId, Shown};

/// What it is going to do.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// The topic.
    pub topic: String,
    /// After how long it closes, in milliseconds; never if zero.
    pub stays: usize,
}

enum State {
    Asking,
    Reading,
    Over,
}

/// Reads a topic as an event stream.
pub struct Stream {
    plan: StreamPlan,
    state: State,
    head: HeadReader,
    asked_at: Time,
    session: Option<SessionId>,
    /// The stay that it asks to go on with.
    returning: Option<SessionId>,
    line: Vec<u8>,
    event: Event,
}

/// The event whose lines are coming in.
#[derive(Default)]
struct Event {
    id: Option<Place>,
    name: Vec<u8>,
    data: Option<Vec<u8>>,
}

impl Stream {
    /// One that follows `plan`.
    pub fn new(plan: StreamPlan) -> Stream {
        Stream {
            plan,
            state: State::Asking,
            head: HeadReader::default(),
            asked_at: Time::ZERO,
            session: None,
            returning: None,
            line: Vec::new(),
            event: Event::default(),
        }
    }

    fn over(&mut self, hands: &mut Hands<'_>) {
        self.state = State::Over;
        if let Some(session) = self.session.take().or(self.returning.take()) {
            hands.oracle.leaves(session);
        }
    }

    fn answered(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        let Some((head, rest)) = self.head.read(bytes, hands) else { return };
        let media_type = head.field("content-type").unwrap_or_default();
        if head.status != 200 || !media_type.starts_with("text/event-stream") {
            if !hands.harsh {
                hands.fault(&format!("its event stream was answered {}", head.status));
            }
            return self.over(hands);
        }
        let now = hands.now();
        self.session = Some(match self.returning.take() {
            Some(session) => {
                hands.oracle.resumes(session);
                session
            }
            None => {
                let session = hands.oracle.joins(&self.plan.topic, now);
                hands.oracle.asked(session, self.asked_at);
                session
            }
        });
        self.state = State::Reading;
        if self.plan.stays > 0 {
            let stays = hands.rng.millis(0, self.plan.stays);
            hands.act_in(stays);
        }
        self.read_lines(&rest, hands);
    }

    fn read_lines(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    self.read_line(&line, hands);
                }
                b'\r' => hands.fault("a CR in an event stream of ours"),
                byte => self.line.push(*byte),
            }
        }
    }

    fn read_line(&mut self, line: &[u8], hands: &mut Hands<'_>) {
        if line.is_empty() {
            return self.dispatch(hands);
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default());
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"" | b"retry" => {}
            b"id" => {
                self.event.id = place(value);
                if self.event.id.is_none() {
                    hands.fault("J1: an id that is no place");
                }
            }
            b"event" => self.event.name = value.to_vec(),
            b"data" => match &mut self.event.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                none => *none = Some(value.to_vec()),
            },
            _ => hands.fault("J2: a line that is no field of ours"),
        }
    }

    fn dispatch(&mut self, hands: &mut Hands<'_>) {
        let Event { id, name, data } = std::mem::take(&mut self.event);
        let Some(session) = self.session else { return };
        let Some(data) = data else {
            // J4: no event, but a place to come back to.
            if let Some(place) = id {
                hands.oracle.begins(session, place);
            }
            return;
        };
        if name == b"gap" {
            return match gap(&data).filter(|(gap, _)| id == Some((gap.0, gap.2))) {
                Some((gap, previous)) => hands.oracle.misses(session, gap, previous, hands.net.now),
                None => hands.fault("J4: a gap that is not written as one"),
            };
        }
        let binary = name == b"binary";
        let (Some(place), Some(payload)) = (id, if binary { unbase64(&data) } else { Some(data) }) else {
            return hands.fault("an event without a place or with broken base64");
        };
        let kind = if binary { Kind::Binary } else { Kind::Text };
        hands.oracle.hears(session, Shown::Events, kind, &payload, Some(place));
    }
}

/// `<epoch>-<offset>`.
pub(super) fn place(text: &[u8]) -> Option<Place> {
    let (epoch, offset) = str::from_utf8(text).ok()?.split_once('-')?;
    Some((u64::from_str_radix(epoch, 16).ok()?, offset.parse().ok()?))
}

/// `{"epoch":"<epoch>","from":<offset>,"to":<offset>}`, perhaps with a `previous_epoch`.
fn gap(data: &[u8]) -> Option<((u64, u64, u64), Option<u64>)> {
    let text = str::from_utf8(data).ok()?.strip_prefix("{\"epoch\":\"")?.strip_suffix('}')?;
    let (epoch, rest) = text.split_once("\",\"from\":")?;
    let (from, rest) = rest.split_once(",\"to\":")?;
    let (to, previous) =
        rest.split_once(",\"previous_epoch\":\"").map_or((rest, None), |(to, rest)| (to, Some(rest)));
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let previous = match previous {
        Some(text) => Some(hexadecimal(text.strip_suffix('"')?)?),
        None => None,
    };
    Some(((hexadecimal(epoch)?, from.parse().ok()?, to.parse().ok()?), previous))
}

impl Client for Stream {
    fn begin(&mut self, hands: &mut Hands<'_>) {
        self.asked_at = hands.now();
        let topic = &self.plan.topic;
        let mut request =
            format!("GET /topics/{topic} HTTP/1.1\r\nHost: gate.test\r\nAccept: text/event-stream\r\n");
        if hands.rng.chance(80)
            && let Some((session, (epoch, offset))) = hands.oracle.comes_back(topic, false)
        {
            self.returning = Some(session);
            request += &format!("Last-Event-ID: {epoch:016x}-{offset}\r\n");
        }
        request += "\r\n";
        hands.say(request.as_bytes());
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        if let (State::Reading, 1..) = (&self.state, self.plan.stays) {
            hands.net.close(hands.wire);
            self.over(hands);
        }
    }

    fn hear(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        match self.state {
            State::Asking => self.answered(bytes, hands),
            State::Reading => self.read_lines(bytes, hands),
            State::Over => {}
        }
    }

    fn end(&mut self, end: End, hands: &mut Hands<'_>) {
        let wrong = match (end, &self.state) {
            _ if hands.is_broken() => None,
            (_, State::Over) => None,
            (End::Fin, _) if !self.line.is_empty() => Some("D16: a FIN inside a line"),
            _ if hands.harsh => None,
            _ => Some("an event stream ended by itself"),
        };
        if let Some(wrong) = wrong {
            hands.fault(wrong);
        }
        self.over(hands);
    }

    fn abandon(&mut self, hands: &mut Hands<'_>) {
        self.over(hands);
    }

    fn is_owed(&self) -> Option<&'static str> {
        match self.state {
            State::Asking => Some("an answer to its GET"),
            State::Reading if self.plan.stays > 0 => Some("a turn to leave"),
            State::Reading | State::Over => None,
        }
    }
}

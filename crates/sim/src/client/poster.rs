//! Somebody who says one message by POST and wants to know its place.

use moongate_wire::Kind;

use super::http::{Head, HeadReader};
use super::payload::{json, padding};
use super::{Client, Hands};
use crate::net::End;
use crate::oracle::{MessageId, Saying};

/// What it is going to do.
#[derive(Clone, Debug)]
pub struct PosterPlan {
    /// The topic.
    pub topic: String,
    /// How many bytes the message has at most.
    pub bytes_max: usize,
    /// Whether it sends FIN behind its request.
    pub half_closes: bool,
}

/// How long messages may have to be for JSON to be among them.
const JSON_BYTES_MIN: usize = 200;

/// Posts once.
pub struct Poster {
    plan: PosterPlan,
    message: Option<MessageId>,
    rest: Vec<u8>,
    head: HeadReader,
    answer: Option<Head>,
    body: Vec<u8>,
    over: bool,
}

impl Poster {
    /// One that follows `plan`.
    pub fn new(plan: PosterPlan) -> Poster {
        Poster {
            plan,
            message: None,
            rest: Vec::new(),
            head: HeadReader::default(),
            answer: None,
            body: Vec::new(),
            over: false,
        }
    }

    fn judge(&mut self, hands: &mut Hands<'_>) {
        let Some(head) = &self.answer else {
            if !hands.harsh {
                hands.fault("a POST without an answer");
            }
            return;
        };
        if self.body.len() != head.length() {
            return hands.fault("a POST's answer of another length than it says");
        }
        match (head.status, place(&self.body), self.message) {
            (200, Some(place), Some(message)) => hands.oracle.placed(message, place),
            (200, ..) => hands.fault("a 200 without a place"),
            _ if hands.harsh => {}
            (status, ..) => hands.fault(&format!("a POST was answered {status}")),
        }
    }
}

/// The place in `{"topic":…,"epoch":"…","offset":…}`.
fn place(body: &[u8]) -> Option<(u64, u64)> {
    let text = str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("\"epoch\":\"")?;
    let (epoch, rest) = rest.split_once("\",\"offset\":")?;
    let (offset, _) = rest.split_once('}')?;
    Some((u64::from_str_radix(epoch, 16).ok()?, offset.parse().ok()?))
}

impl Client for Poster {
    fn begin(&mut self, hands: &mut Hands<'_>) {
        let mut kind = hands.rng.pick(&[Kind::Text, Kind::Text, Kind::Json, Kind::Binary]);
        if self.plan.bytes_max < JSON_BYTES_MIN {
            kind = if kind == Kind::Json { Kind::Text } else { kind };
        }
        let (before, after) = match kind {
            // Escapes and what stands around it take room.
            Kind::Json => {
                let arguments = hands.rng.chance(50);
                let (before, after) = json(arguments, self.plan.bytes_max / 4, hands.rng);
                (before, after.into_bytes())
            }
            Kind::Text | Kind::Binary => ("", padding(kind, self.plan.bytes_max, hands.rng)),
        };
        let (before, after) = (before.as_bytes(), &after[..]);
        let topic = &self.plan.topic;
        let saying = Saying { topic, kind, before, after, by: None, excluded: false };
        let (message, payload) = hands.oracle.say(saying, hands.net.now);
        self.message = Some(message);
        let media_type = match kind {
            Kind::Text => "",
            Kind::Json => "Content-Type: application/json\r\n",
            Kind::Binary => "Content-Type: application/octet-stream\r\n",
        };
        let chunked = hands.rng.chance(40);
        let framing = if chunked {
            String::from("Transfer-Encoding: chunked")
        } else {
            format!("Content-Length: {}", payload.len())
        };
        let expect = if hands.rng.chance(10) { "Expect: 100-continue\r\n" } else { "" };
        let mut request = format!(
            "POST /topics/{topic} HTTP/1.1\r\nHost: gate.test\r\n{media_type}{expect}{framing}\r\n\r\n"
        )
        .into_bytes();
        if chunked {
            for chunk in payload.chunks(hands.rng.between(1, 64)) {
                request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                request.extend_from_slice(chunk);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"0\r\n\r\n");
        } else {
            request.extend_from_slice(&payload);
        }
        self.rest = request.split_off(hands.rng.between(1, request.len()));
        hands.say(&request);
        let pause = hands.rng.millis(0, 20);
        hands.act_in(pause);
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.over || self.answer.is_some() {
            return;
        }
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            hands.say(&rest);
            if self.plan.half_closes {
                hands.net.half_close(hands.wire);
            }
        }
    }

    fn hear(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        if self.answer.is_some() {
            return self.body.extend_from_slice(bytes);
        }
        if let Some((head, rest)) = self.head.read(bytes, hands) {
            self.answer = Some(head);
            self.body = rest;
        }
    }

    fn end(&mut self, end: End, hands: &mut Hands<'_>) {
        self.over = true;
        if hands.is_broken() || (end == End::Reset && hands.harsh) {
            return;
        }
        self.judge(hands);
    }

    fn is_owed(&self) -> Option<&'static str> {
        (!self.over).then_some("an answer to its POST")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_place_in_an_answer() {
        let body = moongate_wire::answer::published("a/\"b", 0xfe, 12);
        assert_eq!(super::place(body.as_bytes()), Some((0xfe, 12)));
        assert_eq!(super::place(b"{}"), None);
    }
}

//! Everybody else: plain requests, and people who do not know how to behave. Each gets an answer or an end.

use std::time::Duration;

use moongate_wire::frame::{Opcode, ServerFrames, encode_masked};

use super::http::{Head, HeadReader, handshake};
use super::{Client, Hands};
use crate::net::End;
use crate::rng::Rng;

/// What a script's author is owed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// A whole answer with this status, then a FIN.
    Status(u16),
    /// A 101 and a Close with this code.
    Close(u16),
    /// The connection's end, whatever comes before it.
    End,
}

#[derive(Clone)]
pub(super) enum Step {
    Say(Vec<u8>),
    Wait(Duration),
    HalfClose,
    Reset,
    Vanish,
}

/// Somebody who acts by a script, whatever is answered.
pub struct Scripted {
    name: &'static str,
    steps: std::vec::IntoIter<Step>,
    expect: Expect,
    head: HeadReader,
    answer: Option<Head>,
    body: Vec<u8>,
    frames: ServerFrames,
    close: Option<u16>,
    gone: bool,
    over: bool,
}

impl Scripted {
    pub(super) fn new(name: &'static str, expect: Expect, steps: Vec<Step>) -> Scripted {
        Scripted {
            name,
            steps: steps.into_iter(),
            expect,
            head: HeadReader::default(),
            answer: None,
            body: Vec::new(),
            frames: ServerFrames::default(),
            close: None,
            gone: false,
            over: false,
        }
    }

    fn fault(&self, what: &str, hands: &mut Hands<'_>) {
        hands.fault(&format!("{}: {what}", self.name));
    }

    fn read_frames(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        self.frames.push(bytes);
        loop {
            let (opcode, payload) = match self.frames.next_frame() {
                Ok(Some(frame)) => (frame.opcode, frame.payload.to_vec()),
                Ok(None) => return,
                Err(fault) => return self.fault(fault.reason, hands),
            };
            if self.close.is_some() {
                return self.fault("a frame after Close", hands);
            }
            if opcode == Opcode::Close {
                self.close = Some(payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code)));
            }
        }
    }

    fn judge(&self, end: End, hands: &mut Hands<'_>) {
        let status = self.answer.as_ref().map(|head| head.status);
        let short = self.answer.as_ref().is_some_and(|head| self.body.len() != head.length());
        if status != Some(101) && end == End::Fin && short && status.is_some() {
            return self.fault("an answer of another length than it says", hands);
        }
        let fine = match self.expect {
            _ if hands.harsh => true,
            Expect::End => true,
            Expect::Status(expect) => status == Some(expect) && end == End::Fin && !short,
            Expect::Close(expect) => status == Some(101) && self.close == Some(expect),
        };
        if !fine {
            let got = format!("expected {:?}, got {status:?}, Close {:?}, {end:?}", self.expect, self.close);
            self.fault(&got, hands);
        }
    }
}

impl Client for Scripted {
    fn begin(&mut self, hands: &mut Hands<'_>) {
        self.act(hands);
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        while !self.over && !self.gone {
            match self.steps.next() {
                None => return,
                Some(Step::Say(bytes)) => hands.say(&bytes),
                Some(Step::Wait(span)) => return hands.act_in(span),
                Some(Step::HalfClose) => hands.net.half_close(hands.wire),
                Some(Step::Reset) => {
                    hands.net.reset(hands.wire);
                    self.gone = true;
                }
                Some(Step::Vanish) => {
                    hands.net.vanish(hands.wire);
                    self.gone = true;
                }
            }
        }
    }

    fn hear(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        let rest = match &self.answer {
            Some(_) => bytes.to_vec(),
            None => match self.head.push(bytes) {
                Ok(Some((head, rest))) => {
                    if head.field("sec-websocket-extensions").is_some() {
                        self.frames = ServerFrames::with_deflate();
                    }
                    self.answer = Some(head);
                    rest
                }
                Ok(None) => return,
                Err(what) => return self.fault(&what, hands),
            },
        };
        match self.answer.as_ref().map(|head| head.status) {
            Some(101) => self.read_frames(&rest, hands),
            _ => self.body.extend_from_slice(&rest),
        }
    }

    fn end(&mut self, end: End, hands: &mut Hands<'_>) {
        if !self.over && !self.gone && !hands.is_broken() {
            self.judge(end, hands);
        }
        self.over = true;
    }

    fn is_owed(&self) -> Option<&'static str> {
        (!self.over && !self.gone).then_some("an answer or an end")
    }
}

/// One of those who do not behave, or who just ask for something plain.
pub fn rude(topic: &str, message_bytes_max: usize, rng: &mut Rng) -> Scripted {
    let say = |bytes: &[u8]| Step::Say(bytes.to_vec());
    let ask = |request: &str| Step::Say(format!("{request}\r\nHost: gate.test\r\n\r\n").into_bytes());
    let upgrade = || Step::Say(handshake(&format!("/topics/{topic}"), ""));
    let frame = |opcode, fin, payload: &[u8]| {
        let mut out = Vec::new();
        encode_masked(opcode, fin, [1, 2, 3, 4], payload, &mut out);
        Step::Say(out)
    };
    let mut rng_after = rng.fork();
    match rng.below(24) {
        0 => Scripted::new("plain page", Expect::Status(200), vec![ask("GET / HTTP/1.1")]),
        1 => Scripted::new("health", Expect::Status(200), vec![ask("GET /healthz HTTP/1.1")]),
        2 => Scripted::new("nowhere", Expect::Status(404), vec![ask("GET /nowhere HTTP/1.1")]),
        3 => Scripted::new(
            "no way in",
            Expect::Status(426),
            vec![ask(&format!("GET /topics/{topic} HTTP/1.1"))],
        ),
        4 => Scripted::new("options", Expect::Status(204), vec![ask("OPTIONS * HTTP/1.1")]),
        5 => {
            let bytes: Vec<u8> = (0..rng.between(1, 300)).map(|_| rng.draw() as u8).collect();
            Scripted::new("garbage", Expect::End, vec![say(&bytes)])
        }
        6 => Scripted::new("half a head", Expect::Status(408), vec![say(b"GET /topics/a HTTP/1.1\r\nHo")]),
        7 => Scripted::new("silence", Expect::Status(408), vec![]),
        8 => {
            let every = Duration::from_millis(rng.between(1, 40) as u64);
            let head = handshake(&format!("/topics/{topic}"), "");
            let mut steps: Vec<Step> =
                head.iter().flat_map(|byte| [Step::Say(vec![*byte]), Step::Wait(every)]).collect();
            steps.push(frame(Opcode::Close, true, &1000_u16.to_be_bytes()));
            Scripted::new("dripping head", Expect::Close(1000), steps)
        }
        9 => Scripted::new("D1 not masked", Expect::Close(1002), vec![upgrade(), say(&[0x81, 1, b'x'])]),
        10 => Scripted::new(
            "D4 reserved opcode",
            Expect::Close(1002),
            vec![upgrade(), say(&[0x83, 0x80, 0, 0, 0, 0])],
        ),
        11 => {
            let part = vec![b'x'; message_bytes_max / 2 + 1];
            let steps = vec![
                upgrade(),
                frame(Opcode::Text, false, &part),
                frame(Opcode::Continuation, false, &part),
                frame(Opcode::Continuation, true, &part),
            ];
            Scripted::new("K2 too big in parts", Expect::Close(1009), steps)
        }
        12 => Scripted::new(
            "F1 no text",
            Expect::Close(1007),
            vec![upgrade(), frame(Opcode::Text, true, &[0xff, 0xfe])],
        ),
        13 => {
            let mut steps = vec![upgrade()];
            steps.extend((0..rng.between(50, 2000)).map(|_| frame(Opcode::Ping, true, b"flood")));
            steps.push(frame(Opcode::Close, true, &3000_u16.to_be_bytes()));
            Scripted::new("K3 flood of pings", Expect::Close(3000), steps)
        }
        14 => Scripted::new(
            "E1 Close of one byte",
            Expect::Close(1002),
            vec![upgrade(), frame(Opcode::Close, true, b"x")],
        ),
        15 => Scripted::new(
            "E5 empty Close",
            Expect::Close(0),
            vec![upgrade(), frame(Opcode::Close, true, b"")],
        ),
        16 => {
            let wait = Step::Wait(rng.millis(0, 2000));
            let half = frame(Opcode::Binary, false, &vec![7; message_bytes_max / 2]);
            Scripted::new("gone inside a message", Expect::End, vec![upgrade(), half, wait, Step::Vanish])
        }
        17 => {
            let steps = vec![
                ask(&format!("POST /topics/{topic} HTTP/1.1\r\nContent-Length: 10")),
                say(b"four"),
                Step::HalfClose,
            ];
            Scripted::new("half a body", Expect::Status(400), steps)
        }
        18 => {
            let steps =
                vec![ask(&format!("POST /topics/{topic} HTTP/1.1\r\nContent-Length: 10")), say(b"four")];
            Scripted::new("a body that stalls", Expect::Status(408), steps)
        }
        19 => {
            let length = message_bytes_max + 1;
            let steps = vec![
                ask(&format!("POST /topics/{topic} HTTP/1.1\r\nContent-Length: {length}")),
                Step::Say(vec![b'x'; length]),
            ];
            Scripted::new("a body too big", Expect::Status(413), steps)
        }
        20 => {
            let mut steps = vec![ask("GET /nowhere HTTP/1.1")];
            for _ in 0..rng.between(1, 40) {
                steps.push(Step::Wait(rng_after.millis(0, 50)));
                steps.push(Step::Say(vec![b'y'; 200]));
            }
            Scripted::new("B30 goes on after its answer", Expect::Status(404), steps)
        }
        21 => {
            let wait = Step::Wait(rng.millis(0, 100));
            Scripted::new("reset inside its head", Expect::End, vec![say(b"GET / HT"), wait, Step::Reset])
        }
        22 => Scripted::new("FIN inside its head", Expect::End, vec![say(b"GET / HT"), Step::HalfClose]),
        _ => {
            // It answers no ping and reads no Close.
            let steps = vec![
                upgrade(),
                frame(Opcode::Pong, true, b"unasked"),
                Step::Wait(rng.millis(0, 3000)),
                Step::Vanish,
            ];
            Scripted::new("gone in silence", Expect::End, steps)
        }
    }
}

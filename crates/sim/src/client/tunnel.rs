//! Both ends of a tunnel: a client that asks for one, and the upstream that it leads to.
//!
//! A request's path says all that is going to happen, so that both ends know what to expect of each other: which number
//! it has, how the upstream behaves, and how many bytes go each way. The bytes themselves follow from the number.

use std::time::Duration;

use moongate_io::Time;

use super::http::{HeadReader, handshake};
use super::{Client, Hands};
use crate::net::End;

/// How an upstream behaves.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Manner {
    /// It switches, says what it has to say, and ends after that.
    Switches,
    /// It switches, and resets half-way.
    Dies,
    /// It goes before it has answered, with a FIN.
    Hangs,
    /// It says something that is no HTTP.
    Babbles,
    /// It says nothing at all.
    Sleeps,
    /// It answers 200, with a body of the announced length.
    Length,
    /// In chunks.
    Chunks,
    /// That ends with the connection.
    UntilClose,
    /// It answers 401, with a body.
    Unauthorized,
    /// It answers 204.
    Empty,
    /// It answers 304.
    NotModified,
}

/// Every manner, with the word for it in a path.
const MANNERS: [(Manner, &str); 11] = [
    (Manner::Switches, "switches"),
    (Manner::Dies, "dies"),
    (Manner::Hangs, "hangs"),
    (Manner::Babbles, "babbles"),
    (Manner::Sleeps, "sleeps"),
    (Manner::Length, "length"),
    (Manner::Chunks, "chunks"),
    (Manner::UntilClose, "until-close"),
    (Manner::Unauthorized, "unauthorized"),
    (Manner::Empty, "empty"),
    (Manner::NotModified, "not-modified"),
];

impl Manner {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Manner> {
        MANNERS.into_iter().map(|(manner, _)| manner)
    }

    fn word(self) -> &'static str {
        MANNERS[self as usize].1
    }

    fn switches(self) -> bool {
        matches!(self, Manner::Switches | Manner::Dies)
    }
}

/// Where a path leads.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// To an upstream that takes the call.
    Open,
    /// To a port where nobody listens.
    Refused,
    /// To a machine that is not there.
    Silent,
    /// To a socket that is not there.
    Missing,
    /// To an upstream that takes the call, for a while; neither end would ever end it.
    Brief,
}

/// How long tunnels live that are [`Way::Brief`], as their route says.
const LIFETIME: Duration = Duration::from_secs(5);

/// How much longer one may live on, on its slow way to both ends; much less than silence may last.
const LIFETIME_SLACK: Duration = Duration::from_secs(20);

impl Way {
    /// What its paths start with.
    pub fn path(self) -> &'static str {
        match self {
            Way::Open => "open",
            Way::Refused => "refused",
            Way::Silent => "silent",
            Way::Missing => "missing",
            Way::Brief => "brief",
        }
    }
}

/// What is going to happen in a tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelPlan {
    /// A number of its own.
    pub number: u32,
    /// Where it leads.
    pub way: Way,
    /// How the upstream behaves.
    pub manner: Manner,
    /// How many bytes the client says.
    pub up: usize,
    /// How many the upstream says.
    pub down: usize,
    /// Whether the client asks to switch; else it asks for an answer.
    pub upgrades: bool,
    /// Whether the client resets half-way.
    pub leaves: bool,
}

impl TunnelPlan {
    fn path(&self) -> String {
        let TunnelPlan { number, way, manner, up, down, .. } = self;
        let way = if self.upgrades { way.path().to_owned() } else { format!("pass-{}", way.path()) };
        format!("/{way}/{number}/{}/{up}/{down}", manner.word())
    }

    /// What a request for this path means to the upstream that gets it.
    fn parse(path: &str) -> Option<TunnelPlan> {
        let parts: Vec<&str> = path.split('/').collect();
        let ["", way, number, manner, up, down] = parts[..] else { return None };
        let (manner, _) = MANNERS.into_iter().find(|(_, word)| *word == manner)?;
        Some(TunnelPlan {
            number: number.parse().ok()?,
            way: if way == Way::Brief.path() { Way::Brief } else { Way::Open },
            manner,
            up: up.parse().ok()?,
            down: down.parse().ok()?,
            upgrades: !way.starts_with("pass-"),
            leaves: false,
        })
    }

    /// Whether a side that has said so much has no more to say, and waits for an end that does not come by itself.
    fn rests(&self, said: usize, of: usize) -> bool {
        self.way == Way::Brief && said * 2 >= of
    }

    /// The bytes from `at` on that one side says, as many as there are up to `count`.
    fn bytes(&self, upwards: bool, at: usize, count: usize) -> Vec<u8> {
        let length = if upwards { self.up } else { self.down };
        let seed = self.number as usize * 31 + usize::from(upwards) * 101;
        (at..length.min(at + count)).map(|index| (seed + index * 167 + (index >> 8) * 13) as u8).collect()
    }
}

/// Bytes on their way in: each must be the next of those that the other side says.
#[derive(Default)]
struct Heard {
    count: usize,
}

impl Heard {
    fn take(&mut self, plan: &TunnelPlan, upwards: bool, bytes: &[u8], hands: &mut Hands<'_>) {
        let expect = plan.bytes(upwards, self.count, bytes.len());
        if expect != bytes {
            let way = if upwards { "up" } else { "down" };
            hands.fault(&format!(
                "{} other bytes than were said came {way} after {}",
                bytes.len(),
                self.count
            ));
        }
        self.count += bytes.len();
    }
}

/// A client that asks for a tunnel, or for an answer by the same way.
pub struct Caller {
    plan: TunnelPlan,
    head: HeadReader,
    status: Option<u16>,
    body: Vec<u8>,
    said: usize,
    heard: Heard,
    told_end: bool,
    left: bool,
    over: bool,
}

impl Caller {
    /// One that follows `plan`.
    pub fn new(plan: TunnelPlan) -> Caller {
        Caller {
            plan,
            head: HeadReader::default(),
            status: None,
            body: Vec::new(),
            said: 0,
            heard: Heard::default(),
            told_end: false,
            left: false,
            over: false,
        }
    }

    /// Says a little more, early or not; its end behind the last of it.
    fn say_on(&mut self, hands: &mut Hands<'_>) {
        if !self.plan.upgrades || self.status.is_some_and(|status| status != 101) || self.told_end {
            return;
        }
        if self.plan.leaves && self.said * 2 >= self.plan.up {
            self.left = true;
            return hands.net.reset(hands.wire);
        }
        if self.plan.rests(self.said, self.plan.up) {
            return;
        }
        let count = hands.rng.between(1, 1 + self.plan.up / 3).min(self.plan.up - self.said);
        let bytes = self.plan.bytes(true, self.said, count);
        self.said += bytes.len();
        hands.say(&bytes);
        // An end before the 101 counts behind what came early.
        if self.said == self.plan.up && self.plan.way != Way::Brief {
            self.told_end = true;
            return hands.net.half_close(hands.wire);
        }
        let pause = hands.rng.millis(0, 50);
        hands.act_in(pause);
    }

    fn judge(&self, end: End, hands: &mut Hands<'_>) {
        let TunnelPlan { way, manner, down, .. } = self.plan;
        // A reset behind a 101 may overtake it: whoever had not read it yet never will, the client or the gateway.
        if way == Way::Open && manner == Manner::Dies && (end == End::Reset || self.status == Some(502)) {
            return;
        }
        let Some(status) = self.status else {
            return hands.fault(&format!("{way:?}, {manner:?}: no answer but {end:?}"));
        };
        let expect = match (way, manner) {
            (Way::Refused | Way::Missing, _) => 502,
            (Way::Silent, _) => 504,
            (Way::Brief, _) => 101,
            (Way::Open, Manner::Switches | Manner::Dies) if self.plan.upgrades => 101,
            (Way::Open, Manner::Switches | Manner::Dies) => 502,
            (Way::Open, Manner::Hangs | Manner::Babbles) => 502,
            (Way::Open, Manner::Sleeps) => 504,
            (Way::Open, Manner::Length | Manner::Chunks | Manner::UntilClose) => 200,
            (Way::Open, Manner::Unauthorized) => 401,
            (Way::Open, Manner::Empty) => 204,
            (Way::Open, Manner::NotModified) => 304,
        };
        if status != expect {
            return hands.fault(&format!("{way:?}, {manner:?} was answered {status}"));
        }
        match (manner, end) {
            // H12
            (Manner::Dies, End::Fin) if status == 101 => hands.fault("a reset came as an end"),
            (_, End::Reset) => hands.fault(&format!("{manner:?} ended in a reset after {status}")),
            // H17: what had not come yet does not come any more.
            _ if way == Way::Brief => {}
            // H11
            (Manner::Switches, End::Fin) if status == 101 && self.heard.count != down => {
                hands.fault(&format!("{} of {down} bytes came before the end", self.heard.count));
            }
            _ if status < 500 && status != 101 => self.judge_body(hands),
            _ => {}
        }
    }

    /// H3: the answer's body, to the byte.
    fn judge_body(&self, hands: &mut Hands<'_>) {
        let whole = self.plan.bytes(false, 0, self.plan.down);
        let expect = match self.plan.manner {
            Manner::Empty | Manner::NotModified => Vec::new(),
            _ => whole,
        };
        let found = match self.plan.manner {
            Manner::Chunks => unchunked(&self.body),
            _ => Some(self.body.clone()),
        };
        if found.as_ref() != Some(&expect) {
            let manner = self.plan.manner;
            let (found, expect) = (found.map(|body| body.len()), expect.len());
            hands.fault(&format!("{manner:?}: another body came, {found:?} bytes for {expect}"));
        }
    }
}

/// A body out of its chunks, if that is what it is.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let size = usize::from_str_radix(str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        let chunk = rest.get(end + 2..end + 2 + size)?;
        rest = rest[end + 2 + size..].strip_prefix(b"\r\n")?;
        if size == 0 {
            return rest.is_empty().then_some(out);
        }
        out.extend_from_slice(chunk);
    }
}

impl Client for Caller {
    fn begin(&mut self, hands: &mut Hands<'_>) {
        let path = self.plan.path();
        let head = if self.plan.upgrades {
            handshake(&path, "X-Forwarded-For: 203.0.113.1\r\n")
        } else {
            format!("GET {path} HTTP/1.1\r\nHost: gate.test\r\nConnection: keep-alive\r\n\r\n").into_bytes()
        };
        hands.say(&head);
        let pause = hands.rng.millis(0, 30);
        hands.act_in(pause);
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        self.say_on(hands);
    }

    fn hear(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        let mut rest = bytes.to_vec();
        if self.status.is_none() {
            let Some((head, behind)) = self.head.read(bytes, hands) else { return };
            self.status = Some(head.status);
            // H1
            if head.status == 101 && !hands.oracle.has_switched(self.plan.number) {
                hands.fault("a 101 came before the upstream's own");
            }
            rest = behind;
        }
        if self.status == Some(101) {
            self.heard.take(&self.plan, false, &rest, hands);
        } else {
            self.body.extend_from_slice(&rest);
        }
    }

    fn end(&mut self, end: End, hands: &mut Hands<'_>) {
        self.over = true;
        if !self.left && !hands.is_broken() && !hands.harsh {
            self.judge(end, hands);
        }
    }

    fn goes_on(&self) -> bool {
        // The upstream's half has ended, and its own has not.
        let switches = self.plan.manner == Manner::Switches && self.plan.way != Way::Brief;
        self.over && self.status == Some(101) && switches && !self.told_end
    }

    fn is_owed(&self) -> Option<&'static str> {
        (!self.over && !self.left).then_some("the end of its tunnel")
    }
}

/// The server behind a tunnel.
#[derive(Default)]
pub struct Upstream {
    head: Vec<u8>,
    plan: Option<TunnelPlan>,
    answered: bool,
    switched_at: Option<Time>,
    said: usize,
    told_end: bool,
    heard: Heard,
    over: bool,
    lies: bool,
}

impl Upstream {
    /// One that nobody has asked yet. If it `lies`, it says one byte that is not the path's.
    pub fn new(lies: bool) -> Upstream {
        Upstream { lies, ..Upstream::default() }
    }

    /// The request's head is here: what does it say?
    fn read_request(&mut self, hands: &mut Hands<'_>) {
        let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else { return };
        let behind = self.head.split_off(end + 4);
        let text = String::from_utf8_lossy(&self.head).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let Some(plan) = TunnelPlan::parse(path) else {
            return hands.fault(&format!("an upstream got {text:?}"));
        };
        // H6, H8
        let connection =
            if plan.upgrades { "\r\nConnection: Upgrade\r\n" } else { "\r\nConnection: close\r\n" };
        if !text.contains(connection) || text.contains("203.0.113.1") || !text.contains("\r\nVia: ") {
            hands.fault(&format!("an upstream got {text:?}"));
        }
        self.plan = Some(plan);
        self.check_early(&behind, hands);
        let pause = hands.rng.millis(0, 400);
        hands.act_in(pause);
    }

    /// H2: not a byte before it has switched.
    fn check_early(&self, bytes: &[u8], hands: &mut Hands<'_>) {
        if !bytes.is_empty() {
            hands.fault(&format!("{} bytes reached an upstream that had not switched", bytes.len()));
        }
    }

    fn answer(&mut self, plan: &TunnelPlan, hands: &mut Hands<'_>) {
        self.answered = true;
        let whole = plan.bytes(false, 0, plan.down);
        let head = |lines: &str| format!("HTTP/1.1 {lines}\r\n\r\n").into_bytes();
        let length = |status: &str| head(&format!("{status}\r\nContent-Length: {}", whole.len()));
        let answer = match plan.manner {
            Manner::Sleeps => return,
            Manner::Hangs => return hands.net.close(hands.wire),
            Manner::Switches | Manner::Dies if plan.upgrades => {
                hands.oracle.switches(plan.number);
                self.switched_at = Some(hands.now());
                let mut answer = head("101 Yes\r\nUpgrade: WebSocket\r\nConnection: upgrade");
                // H10: some of it right behind the head.
                let first = plan.bytes(false, 0, hands.rng.between(0, plan.down));
                self.said = first.len();
                answer.extend_from_slice(&first);
                answer
            }
            // H5: nobody asked for it.
            Manner::Switches | Manner::Dies => head("101 Yes\r\nUpgrade: WebSocket\r\nConnection: upgrade"),
            Manner::Babbles => b"SSH-2.0-babble\r\n".to_vec(),
            Manner::Length => [length("200 OK"), whole].concat(),
            Manner::Unauthorized => [length("401 No"), whole].concat(),
            Manner::UntilClose => [head("200 OK"), whole].concat(),
            Manner::Empty => head("204 Nothing"),
            Manner::NotModified => length("304 Same"),
            Manner::Chunks => {
                let mut answer = head("200 OK\r\nTransfer-Encoding: chunked");
                for (index, chunk) in whole.chunks(hands.rng.between(1, 999)).enumerate() {
                    // Extensions are bounded over a whole body (docs/protocol.md A25).
                    let extension = if index < 100 { ";x=y" } else { "" };
                    answer.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
                    answer.extend_from_slice(chunk);
                    answer.extend_from_slice(b"\r\n");
                }
                answer.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
                answer
            }
        };
        let cut = hands.rng.below(answer.len() + 1);
        hands.say(&answer[..cut]);
        hands.say(&answer[cut..]);
        if plan.manner == Manner::UntilClose {
            hands.net.half_close(hands.wire);
        }
    }

    /// H17
    fn judge_lifetime(&self, hands: &mut Hands<'_>) {
        let lived = self.switched_at.map(|at| hands.now().since(at));
        if let Some(lived) = lived.filter(|lived| *lived > LIFETIME + LIFETIME_SLACK && !hands.harsh) {
            hands.fault(&format!("a tunnel lived for {lived:?}, and its lifetime is {LIFETIME:?}"));
        }
    }

    fn say_on(&mut self, plan: &TunnelPlan, hands: &mut Hands<'_>) {
        if self.told_end || !plan.manner.switches() || !plan.upgrades {
            return;
        }
        if plan.manner == Manner::Dies && (self.said * 2 >= plan.down || hands.rng.chance(20)) {
            self.over = true;
            return hands.net.reset(hands.wire);
        }
        if plan.rests(self.said, plan.down) {
            return;
        }
        let mut bytes = plan.bytes(false, self.said, hands.rng.between(1, 1 + plan.down / 3));
        if let Some(byte) = bytes.first_mut().filter(|_| self.lies) {
            *byte ^= 1;
        }
        self.said += bytes.len();
        hands.say(&bytes);
        if self.said == plan.down && plan.manner == Manner::Switches && plan.way != Way::Brief {
            self.told_end = true;
            return hands.net.half_close(hands.wire);
        }
        let pause = hands.rng.millis(0, 50);
        hands.act_in(pause);
    }
}

impl Client for Upstream {
    fn begin(&mut self, _hands: &mut Hands<'_>) {}

    fn act(&mut self, hands: &mut Hands<'_>) {
        let Some(plan) = self.plan.clone() else { return };
        if self.answered {
            return self.say_on(&plan, hands);
        }
        self.answer(&plan, hands);
        let pause = hands.rng.millis(0, 50);
        hands.act_in(pause);
    }

    fn hear(&mut self, bytes: &[u8], hands: &mut Hands<'_>) {
        match self.plan.clone() {
            None => {
                self.head.extend_from_slice(bytes);
                self.read_request(hands);
            }
            Some(plan) if self.answered && plan.manner.switches() && plan.upgrades => {
                self.heard.take(&plan, true, bytes, hands);
            }
            Some(_) => self.check_early(bytes, hands),
        }
    }

    fn end(&mut self, end: End, hands: &mut Hands<'_>) {
        self.over = true;
        let Some(plan) = &self.plan else { return };
        if plan.way == Way::Brief {
            return self.judge_lifetime(hands);
        }
        let whole = self.heard.count == plan.up;
        if self.answered && plan.manner == Manner::Switches && plan.upgrades && end == End::Fin && !whole {
            // A client that broke off leaves a reset behind, or the gateway's own end when it drains.
            if !hands.harsh && !hands.is_broken() {
                hands.fault(&format!(
                    "{} of {} bytes came before the client's end",
                    self.heard.count, plan.up
                ));
            }
        }
    }

    fn goes_on(&self) -> bool {
        let switches = self
            .plan
            .as_ref()
            .is_some_and(|plan| plan.manner.switches() && plan.upgrades && plan.way != Way::Brief);
        self.over && self.answered && switches && !self.told_end
    }

    fn is_owed(&self) -> Option<&'static str> {
        (!self.over).then_some("the end of a tunnel")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_it_all() {
        for (index, (manner, _)) in MANNERS.iter().enumerate() {
            assert_eq!(*manner as usize, index);
            let (number, up, down) = (7, 1000, 0);
            let plan = TunnelPlan {
                number,
                way: Way::Open,
                manner: *manner,
                up,
                down,
                upgrades: index % 2 == 0,
                leaves: false,
            };
            assert_eq!(TunnelPlan::parse(&plan.path()), Some(plan));
        }
    }

    #[test]
    fn chunks_are_read_strictly() {
        assert_eq!(unchunked(b"2\r\nab\r\n0\r\n\r\n"), Some(b"ab".to_vec()));
        assert_eq!(unchunked(b"2\r\nab\r\n"), None);
        assert_eq!(unchunked(b"2\r\nabc\r\n0\r\n\r\n"), None);
    }
}

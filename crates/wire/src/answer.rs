//! Answers: complete HTTP responses to requests that do not become another protocol.
//!
//! Every answer says `Connection: close`: there is one request per connection, so that no byte after a head can ever be
//! taken for another request (docs/protocol.md B30).

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::event;
use crate::json;
use crate::origin::Cors;
use crate::topic::TopicName;

/// The interim answer to `Expect: 100-continue` (RFC 9110 §10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A moment as HTTP writes it: an IMF-fixdate (RFC 9110 §5.6.7).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Date([u8; 29]);

impl Date {
    /// The moment `seconds` after the Unix epoch; from the year 10000 on, the last second before it.
    pub fn from_unix(seconds: u64) -> Date {
        const LAST: u64 = 253_402_300_799;
        const WEEKDAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
        const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
        let seconds = seconds.min(LAST);
        let (days, time) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        let weekday = (days % 7) as usize * 3;
        text[..3].copy_from_slice(&WEEKDAYS[weekday..weekday + 3]);
        text[8..11].copy_from_slice(&MONTHS[month * 3..month * 3 + 3]);
        for (at, value) in [
            (5, day),
            (12, year / 100),
            (14, year % 100),
            (17, time / 3600),
            (20, time / 60 % 60),
            (23, time % 60),
        ] {
            text[at] = b'0' + (value / 10) as u8;
            text[at + 1] = b'0' + (value % 10) as u8;
        }
        Date(text)
    }

    /// The 29 characters.
    pub fn as_str(&self) -> &str {
        // All of them were written above and are ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Year, month from zero and day from one of a day counted from the Unix epoch, in the proleptic Gregorian calendar.
/// Years start in March here, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, usize, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    (year, month as usize, day)
}

/// What follows an answer's head.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Content {
    None,
    Whole {
        media_type: &'static str,
        body: Cow<'static, [u8]>,
    },
    /// Whatever is sent until the connection closes.
    UntilClose {
        media_type: &'static str,
    },
}

/// An answer in the making.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    status: u16,
    content: Content,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    vary: Vec<&'static str>,
    upgrade: Option<Cow<'static, str>>,
    head_only: bool,
}

impl Answer {
    /// An answer without content.
    pub fn new(status: u16) -> Answer {
        let (content, fields, vary) = (Content::None, Vec::new(), Vec::new());
        Answer { status, content, fields, vary, upgrade: None, head_only: false }
    }

    /// 204, naming the methods that the path answers to.
    pub fn options(methods: &'static str) -> Answer {
        Answer::new(204).field("Allow", methods)
    }

    /// 200 with a line of plain text.
    pub fn text(text: &'static str) -> Answer {
        Answer::new(200).content("text/plain; charset=utf-8", text.as_bytes())
    }

    /// 200 with a page that uses no resource of another server. `on_topic`: another `Accept` would have got something else.
    pub fn page(html: &'static [u8], on_topic: bool) -> Answer {
        let answer = Answer::new(200).content("text/html; charset=utf-8", html);
        if on_topic { answer.vary("Accept") } else { answer }
    }

    /// 200 with a script that any page may load.
    pub fn script(module: &'static [u8]) -> Answer {
        Answer::new(200).content("text/javascript; charset=utf-8", module).cors(&Cors::Any)
    }

    /// 200, the head of an event stream; the events follow until the connection closes (docs/protocol.md J3).
    pub fn events(cors: &Cors) -> Answer {
        let mut answer = Answer::new(200).vary("Accept").cors(cors);
        // Proxies of nginx's kind would hold events back otherwise.
        answer = answer.field("X-Accel-Buffering", "no");
        answer.content = Content::UntilClose { media_type: event::STREAM_TYPE };
        answer
    }

    /// 200: the message has its place in its topic.
    pub fn published(topic: &TopicName, epoch: u64, offset: u64, cors: &Cors) -> Answer {
        let body = published(topic.as_str(), epoch, offset).into_bytes();
        Answer::new(200).content("application/json", body).cors(cors)
    }

    /// With a body of the given media type.
    pub fn content(mut self, media_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Answer {
        self.content = Content::Whole { media_type, body: body.into() };
        self
    }

    /// With one more field. `value` must not come from a peer unless it was checked: it is written as it is.
    pub fn field(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Answer {
        self.fields.push((name, value.into()));
        self
    }

    /// Saying that the request's field `name` took part in choosing this answer.
    pub fn vary(mut self, name: &'static str) -> Answer {
        self.vary.push(name);
        self
    }

    /// Readable by pages of other origins, as far as `cors` says.
    pub fn cors(self, cors: &Cors) -> Answer {
        match cors {
            Cors::SameOrigin => self,
            Cors::Unlisted => self.vary("Origin"),
            Cors::Any => self.field("Access-Control-Allow-Origin", "*"),
            Cors::Origin(origin) => {
                self.field("Access-Control-Allow-Origin", origin.to_string()).vary("Origin")
            }
        }
    }

    /// Naming the protocols that the path would switch to (RFC 9110 §7.8). They are written as they are.
    pub fn upgrade(mut self, protocols: impl Into<Cow<'static, str>>) -> Answer {
        self.upgrade = Some(protocols.into());
        self
    }

    /// For a `HEAD` request, if `head_only`: the same fields and no body (RFC 9110 §9.3.2).
    pub fn head_only(mut self, head_only: bool) -> Answer {
        self.head_only = head_only;
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Appends the complete answer to `out`, for an event stream all that comes before its events.
    pub fn write(&self, date: &Date, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head(date).as_bytes());
        if let Content::Whole { body, .. } = &self.content
            && !self.head_only
        {
            out.extend_from_slice(body);
        }
    }

    fn head(&self, date: &Date) -> String {
        let mut head = String::with_capacity(320);
        let mut line = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = write!(head, "{name}{value}\r\n");
        };
        line("HTTP/1.1 ", status_line(self.status));
        line("Date: ", date.as_str());
        match &self.upgrade {
            Some(protocols) => {
                line("Upgrade: ", protocols);
                line("Connection: ", "Upgrade, close");
            }
            None => line("Connection: ", "close"),
        }
        match &self.content {
            // RFC 9110 §8.6: no Content-Length in a 204.
            Content::None if self.status == 204 => {}
            Content::None => line("Content-Length: ", "0"),
            Content::Whole { media_type, body } => {
                line("Content-Type: ", media_type);
                line("Content-Length: ", &body.len().to_string());
            }
            Content::UntilClose { media_type } => line("Content-Type: ", media_type),
        }
        line("Cache-Control: ", "no-store");
        line("X-Content-Type-Options: ", "nosniff");
        if !self.vary.is_empty() {
            line("Vary: ", &self.vary.join(", "));
        }
        for (name, value) in &self.fields {
            line(name, &format!(": {value}"));
        }
        line("", "");
        head
    }
}

/// The body that confirms a message: where it stands in its topic.
pub fn published(topic: &str, epoch: u64, offset: u64) -> String {
    format!("{{\"topic\":{},\"epoch\":\"{epoch:016x}\",\"offset\":{offset}}}\n", json::quoted(topic))
}

/// Code and reason phrase of every status that this server sends (RFC 9110 §15, RFC 6585).
fn status_line(status: u16) -> &'static str {
    match status {
        200 => "200 OK",
        204 => "204 No Content",
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Method Not Allowed",
        408 => "408 Request Timeout",
        413 => "413 Content Too Large",
        414 => "414 URI Too Long",
        415 => "415 Unsupported Media Type",
        417 => "417 Expectation Failed",
        426 => "426 Upgrade Required",
        431 => "431 Request Header Fields Too Large",
        501 => "501 Not Implemented",
        502 => "502 Bad Gateway",
        503 => "503 Service Unavailable",
        504 => "504 Gateway Timeout",
        505 => "505 HTTP Version Not Supported",
        _ => unreachable!("status {status} is not one of ours"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_imf_fixdates() {
        let check = |seconds, expect| assert_eq!(Date::from_unix(seconds).as_str(), expect);
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT");
        check(951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT");
        check(1_704_067_199, "Sun, 31 Dec 2023 23:59:59 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
        check(u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn published_names_the_place() {
        assert_eq!(
            published("a\"b", 0xfeed, 7),
            "{\"topic\":\"a\\\"b\",\"epoch\":\"000000000000feed\",\"offset\":7}\n"
        );
    }
}

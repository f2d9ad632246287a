//! A message by a request (RFC 9110 §9.3.3): the link asks with it, and is open when it is answered. The server ends the
//! connection behind its answer.

use std::net::SocketAddr;

use super::answer::Head;
use super::request::Request;
use super::{Desk, Ear, Format, Heard, Mouth, Step};

pub(super) fn begin(
    target: &str,
    host: SocketAddr,
    format: Format,
    body: &[u8],
) -> (Box<dyn Ear>, Box<dyn Mouth>) {
    let media = match format {
        Format::Text => "text/plain; charset=utf-8",
        Format::Binary => "application/octet-stream",
    };
    let len = body.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {media}\r\nContent-Length: {len}\r\n\
         Connection: close\r\n\r\n"
    );
    let request = [head.as_bytes(), body].concat();
    (Box::new(Hearing { answered: false }), Box::new(Request(request)))
}

struct Hearing {
    answered: bool,
}

impl Ear for Hearing {
    fn hear<'a>(&'a mut self, bytes: &'a [u8], _: &'a mut Desk, _: &mut Vec<u8>) -> Result<Step<'a>, String> {
        if self.answered {
            // The answer's body says nothing that is not known.
            let heard = if bytes.is_empty() { Heard::Part } else { Heard::Nothing };
            return Ok(Step { consumed: bytes.len(), heard });
        }
        let Some(head) = Head::read(bytes)? else { return Ok(Step { consumed: 0, heard: Heard::Part }) };
        head.expect_success()?;
        self.answered = true;
        Ok(Step { consumed: head.len, heard: Heard::Open })
    }
}

#[cfg(test)]
mod tests {
    use super::super::hear_all;
    use super::*;

    #[test]
    fn only_success_is_an_answer() {
        let heard = |answer: &str| hear_all(&mut Hearing { answered: false }, answer.as_bytes(), 5);
        assert_eq!(heard("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Ok(Vec::new()));
        assert_eq!(heard("HTTP/1.1 204 No Content\r\n\r\n"), Ok(Vec::new()));
        assert!(heard("HTTP/1.1 503 Busy\r\n\r\n").is_err_and(|why| why.contains("503 Busy")));
        assert!(heard("HTTP/1.1 200 OK\r\n").is_err());
    }

    #[test]
    fn the_request_holds_the_message() {
        let host = "127.0.0.1:80".parse().expect("an address");
        let (mut out, (_, mut mouth)) = (Vec::new(), begin("/topics/x", host, Format::Text, b"hello"));
        mouth.ask(&mut out);
        let request = String::from_utf8(out).expect("text");
        assert!(request.starts_with("POST /topics/x HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"), "{request}");
        assert!(request.contains("\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n"));
        assert!(request.ends_with("\r\n\r\nhello"), "{request}");
    }
}

//! As much HTTP as it takes to open a WebSocket for the load tool.

use moongate_wire::accept::Template;

/// What a head asks for.
pub(crate) enum Request {
    /// A WebSocket on this path, with this answer.
    Upgrade { path: String, answer: Vec<u8> },
    /// Anything else.
    Other,
}

/// The first whole head in `bytes` and where it ends, if its end has come.
pub(crate) fn read_head(bytes: &[u8], template: &Template) -> Option<(Request, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let key = fields
        .find(|(name, _)| name.eq_ignore_ascii_case("Sec-WebSocket-Key"))
        .map(|(_, value)| value.trim());
    let Some(Ok(key)) = key.map(|key| <&[u8; 24]>::try_from(key.as_bytes())) else {
        return Some((Request::Other, end));
    };
    let mut answer = Vec::new();
    template.write(key, None, None, &mut answer);
    Some((Request::Upgrade { path: path.to_owned(), answer }, end))
}

/// An answer to a request that is not for a WebSocket, after which the connection ends.
pub(crate) fn plain_answer(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

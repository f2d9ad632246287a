//! Requests for a WebSocket.

use moongate_wire::decide::Policy;
use moongate_wire::route::Routes;

/// As small as a handshake gets.
pub const SMALL: &str = "GET /topics/news HTTP/1.1\r\n\
    Host: localhost:8080\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// What a browser sends.
pub const BROWSER: &str = "GET /topics/news HTTP/1.1\r\n\
    Host: localhost:8080\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: http://localhost:8080\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

/// The key in both.
pub const KEY: &[u8; 24] = b"dGhlIHNhbXBsZSBub25jZQ==";

/// A gateway with everything on that decides about requests.
pub fn policy() -> Policy {
    Policy { routes: Routes::usual(true, true).with_health().into(), may_publish: true, ..Policy::default() }
}

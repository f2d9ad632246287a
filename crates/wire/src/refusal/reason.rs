//! Every cause of a refusal, in one table: its status, its name, and the words that help a person out of it.

/// What the table says about one reason.
struct Facts {
    status: u16,
    label: &'static str,
    title: &'static str,
    detail: &'static str,
    hint: &'static str,
}

macro_rules! reasons {
    ($($name:ident $status:literal $label:literal $title:literal $detail:literal $hint:literal;)*) => {
        /// Why a request was refused. One variant per cause.
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        pub enum Reason {
            $(#[doc = concat!($title, " (", stringify!($status), "): ", $detail)] $name,)*
        }

        impl Reason {
            /// Every reason there is, in the order in which a request meets them: `ALL[reason as usize]` is `reason`.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            fn facts(self) -> &'static Facts {
                match self {
                    $(Reason::$name => &Facts {
                        status: $status, label: $label, title: $title, detail: $detail, hint: $hint,
                    },)*
                }
            }
        }
    };
}

impl Reason {
    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        self.facts().status
    }

    /// A stable name in snake_case, for metrics, logs and the problem's `type`.
    pub fn label(self) -> &'static str {
        self.facts().label
    }

    /// What went wrong, in a few words that are the same every time (RFC 9457 §3.1.3).
    pub fn title(self) -> &'static str {
        self.facts().title
    }

    /// What went wrong, in a sentence.
    pub fn detail(self) -> &'static str {
        self.facts().detail
    }

    /// What a person can change so that it works.
    pub fn hint(self) -> &'static str {
        self.facts().hint
    }

    /// After how many seconds it is worth trying again, if waiting can help at all.
    pub fn retry_after(self) -> Option<u32> {
        match self {
            Reason::ConnectionsFull | Reason::MemoryFull | Reason::Busy | Reason::NotOrdered => Some(2),
            Reason::TopicsFull => Some(30),
            Reason::Draining => Some(5),
            _ => None,
        }
    }

    /// Whether the answer says which version of the WebSocket protocol is spoken here (RFC 6455 §4.4).
    pub(super) fn names_version(self) -> bool {
        matches!(self, Reason::VersionMissing | Reason::VersionMalformed | Reason::VersionUnsupported)
    }
}

reasons! {
    TlsOnPlainPort 400 "tls_on_plain_port" "TLS on a plain port"
        "The first byte is that of a TLS handshake, and this port speaks plain HTTP."
        "Use http:// or ws:// instead of https:// or wss:// here, or put a proxy that ends TLS in front.";
    Http2Preface 505 "http2_preface" "HTTP/2 is not spoken here"
        "The request is the connection preface of HTTP/2, and this port speaks HTTP/1.1."
        "Use HTTP/1.1: curl --http1.1, or in a proxy's upstream settings HTTP version 1.1 without h2c.";
    EmptyLines 400 "empty_lines" "Too many empty lines"
        "More empty lines came before the request line than are tolerated."
        "Start the request with its method.";
    LoneLf 400 "lone_lf" "Line feed without carriage return"
        "A line of the head ends in LF alone; every line ends in CR LF."
        "End each line with \\r\\n, for example printf 'GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'.";
    LoneCr 400 "lone_cr" "Carriage return without line feed"
        "A CR in the head is not followed by LF."
        "End each line with \\r\\n and put no carriage return anywhere else.";
    BadRequestLine 400 "bad_request_line" "Malformed request line"
        "The request line is not a method, one space, a target, one space and a version."
        "Send a line such as GET /topics/news HTTP/1.1, and percent-encode spaces in the target as %20.";
    BadMethod 400 "bad_method" "Malformed method"
        "The method has a character in it that no method may have."
        "Send a method such as GET in ASCII letters, as the first bytes of the request.";
    MethodUnknown 501 "method_unknown" "Unknown method"
        "The method is not one that this server knows. Methods are case-sensitive."
        "Use GET to listen, POST to publish; write methods in capital letters.";
    BadTarget 400 "bad_target" "Malformed request target"
        "The request target has a control character or a byte above 0x7E in it."
        "Percent-encode everything but printable ASCII in the target, as in /topics/caf%C3%A9.";
    TargetTooLong 414 "target_too_long" "Request target too long"
        "The request target is longer than this server accepts."
        "Shorten the path and query; put data into messages or into the body of a POST.";
    BadVersion 400 "bad_version" "Malformed HTTP version"
        "The request line does not end in HTTP/, a digit, a dot and a digit."
        "End the request line with HTTP/1.1.";
    VersionNotSupported 505 "http_version_unsupported" "HTTP version not supported"
        "This server speaks HTTP/1.1 and HTTP/1.0, and the request line names another major version."
        "Use HTTP/1.1: curl --http1.1, in nginx proxy_http_version 1.1;.";
    HeadTooLarge 431 "head_too_large" "Request head too large"
        "The request line and the fields together are larger than MOONGATE_HEAD_BYTES_MAX."
        "Send fewer or smaller fields (cookies are the usual cause), or raise MOONGATE_HEAD_BYTES_MAX.";
    TooManyFields 431 "too_many_fields" "Too many header fields"
        "The head has more field lines than this server accepts."
        "Send fewer fields; join list fields into one line.";
    LeadingWhitespace 400 "leading_whitespace" "Whitespace before the first field"
        "The line after the request line starts with whitespace (RFC 9112, section 2.2)."
        "Start every field line with its name.";
    ObsFold 400 "obs_fold" "Folded field line"
        "A field line starts with whitespace, an obsolete way to continue the one before (RFC 9112, section 5.2)."
        "Write each field on one line.";
    SpaceBeforeColon 400 "space_before_colon" "Whitespace before a colon"
        "There is whitespace between a field's name and its colon (RFC 9112, section 5.1)."
        "Write fields as Name: value.";
    BadFieldName 400 "bad_field_name" "Malformed field name"
        "A field line has no name, no colon, or a name with a character that no name may have."
        "Write fields as Name: value, with names of letters, digits and hyphens.";
    BadFieldValue 400 "bad_field_value" "Control character in a field value"
        "A field value has a control character other than a tab in it."
        "Remove NUL and other control characters from the values.";
    ListTooLong 400 "list_too_long" "Too many members in a list field"
        "A list field such as Connection, Upgrade or Accept has more members than this server looks at."
        "Send only the members that are needed.";

    NoHost 400 "no_host" "Host is missing"
        "An HTTP/1.1 request must say which host it is for."
        "Add a line such as Host: localhost:8080; behind nginx set proxy_set_header Host $http_host;.";
    ManyHosts 400 "many_hosts" "Host is repeated"
        "The head has more than one Host line."
        "Send exactly one Host line; a proxy in between may be adding one instead of replacing it.";
    BadHost 400 "bad_host" "Malformed host"
        "The host is not a name or an address with an optional port."
        "Send a host such as example.com, example.com:8080 or [::1]:8080.";
    BadTargetForm 400 "bad_target_form" "Wrong form of request target"
        "The target is neither a path that starts with a slash nor a full http or https URL; * goes with OPTIONS only."
        "Send a path such as /topics/news.";
    BadScheme 400 "bad_scheme" "Scheme is not http or https"
        "A full URL as the request target may only have the scheme http or https, also when it opens a WebSocket."
        "Send the path alone, such as /topics/news, or write http:// in place of ws://.";
    Fragment 400 "fragment" "Fragment in the request target"
        "The target has a # in it; fragments are never sent."
        "Cut the target at #, or percent-encode it as %23 where it is data.";
    ConnectRefused 501 "connect_refused" "CONNECT is not offered"
        "This server is no forward proxy."
        "Take this server out of the client's proxy settings.";
    LengthAndEncoding 400 "length_and_encoding" "Content-Length beside Transfer-Encoding"
        "A request with both has no certain end (RFC 9112, section 6.1)."
        "Send one of the two.";
    BadLength 400 "bad_length" "Malformed Content-Length"
        "Content-Length is not one number in decimal digits."
        "Send the body's size in bytes, as in Content-Length: 5.";
    ManyLengths 400 "many_lengths" "Content-Length is repeated"
        "The head has more than one Content-Length line."
        "Send exactly one.";
    EncodingNotChunked 400 "encoding_not_chunked" "Transfer-Encoding does not end in chunked"
        "A request whose last transfer coding is not chunked, once and without parameters, has no certain end."
        "Send Transfer-Encoding: chunked or Content-Length.";
    EncodingUnknown 501 "encoding_unknown" "Unknown transfer coding"
        "The only transfer coding this server knows is chunked."
        "Send Transfer-Encoding: chunked alone.";
    EncodingInHttp10 400 "encoding_in_http10" "Transfer-Encoding in HTTP/1.0"
        "HTTP/1.0 has no transfer codings, so the request has no certain end."
        "Use HTTP/1.1 or send Content-Length.";

    NotFound 404 "not_found" "No such route"
        "Nothing is served at this path."
        "A topic is a URL: open /topics/<name>, for example /topics/news. The page at / and /echo are only there where MOONGATE_PAGE and MOONGATE_ECHO are on or MOONGATE_ROUTES has them, and health checks where MOONGATE_HEALTH is on. The log at start and moongate check list every route.";
    MethodNotAllowed 405 "method_not_allowed" "Method not allowed"
        "This path does not answer to this method; the Allow field lists those it does."
        "Use GET to listen, POST on a topic to publish.";
    TopicEmpty 400 "topic_empty" "Topic without a name"
        "The path ends after /topics/."
        "Add the topic's name, as in /topics/news.";
    TopicTooLong 400 "topic_too_long" "Topic name too long"
        "A topic's name has at most 255 bytes once it is decoded."
        "Choose a shorter name.";
    TopicBadEscape 400 "topic_bad_escape" "Malformed percent-encoding"
        "A % in the topic's name is not followed by two hexadecimal digits."
        "Write a percent sign as %25.";
    TopicNotUtf8 400 "topic_not_utf8" "Topic name is not UTF-8"
        "The topic's name, once percent-decoded, is not valid UTF-8."
        "Percent-encode the UTF-8 bytes of the name; encodeURIComponent does.";
    TopicControl 400 "topic_control" "Control character in a topic name"
        "The topic's name, once percent-decoded, has a control character in it."
        "Remove it.";
    TopicEmptySegment 400 "topic_empty_segment" "Empty segment in a topic name"
        "The topic's name has two slashes in a row or starts with one."
        "Put something between the slashes, as in /topics/sport/tennis.";
    TopicTrailingSlash 400 "topic_trailing_slash" "Topic name ends in a slash"
        "The topic's name ends in a slash."
        "Leave the last slash out.";
    TopicDotSegment 400 "topic_dot_segment" "Dot segment in a topic name"
        "A segment of the topic's name is . or .., which clients and proxies resolve away."
        "Give the segment another name.";
    TopicEncodedSlash 400 "topic_encoded_slash" "Encoded slash in a topic name"
        "A segment of the topic's name has a slash in it once it is decoded."
        "Write / where levels of the name meet, and use another character where they do not.";
    TopicReserved 400 "topic_reserved" "Reserved topic name"
        "Names whose first segment starts with $ are kept for the gateway."
        "Start the name with another character.";
    TopicPattern 400 "topic_pattern" "Pattern character in a topic name"
        "The characters *, + and # are kept for patterns and cannot be part of a topic's name."
        "Choose a name without them.";

    UpgradeRequired 426 "upgrade_required" "Upgrade required"
        "This is a WebSocket, and the request does not ask for one."
        "Open it with new WebSocket(\"ws://<host>/echo\"), or: curl --http1.1 -i -N -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' http://<host>/echo";
    UpgradeRemoved 426 "upgrade_removed" "Upgrade was removed"
        "There is a Sec-WebSocket-Key, but no Upgrade field, so this is no request for a WebSocket."
        "A proxy in between probably removed it: in nginx set proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";. A client of your own sends Upgrade: websocket and Connection: Upgrade.";
    ConnectionLacksUpgrade 426 "connection_lacks_upgrade" "Connection lacks upgrade"
        "There is an Upgrade field, but the Connection field lacks the token upgrade, so it does not count."
        "A proxy in between probably removed it: in nginx set proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";. A client of your own sends Connection: Upgrade.";
    UpgradeInHttp10 426 "upgrade_in_http10" "Upgrade in HTTP/1.0"
        "An Upgrade field in an HTTP/1.0 request is ignored, as RFC 9110, section 7.8, demands."
        "A proxy in between probably speaks HTTP/1.0: in nginx set proxy_http_version 1.1; beside proxy_set_header Upgrade $http_upgrade; and proxy_set_header Connection \"upgrade\";.";
    UpgradeUnknown 426 "upgrade_unknown" "No such protocol here"
        "The Upgrade field names no protocol that is spoken at this path."
        "Send Upgrade: websocket, without a version. HTTP/2 and TLS are never switched to by Upgrade.";
    UpgradeMethod 405 "upgrade_method" "A WebSocket opens with GET"
        "The request asks for a WebSocket with another method than GET."
        "Use GET; to publish with POST leave the Upgrade field out.";
    UpgradeWithContent 400 "upgrade_with_content" "Content in a WebSocket request"
        "The request that opens a WebSocket announces content."
        "Leave Content-Length and Transfer-Encoding out and send messages once the WebSocket is open.";
    VersionMissing 400 "ws_version_missing" "Sec-WebSocket-Version is missing"
        "A request for a WebSocket must say which version of the protocol it speaks."
        "Add Sec-WebSocket-Version: 13; a proxy in between must let Sec-WebSocket-* fields through.";
    VersionMalformed 400 "ws_version_malformed" "Malformed Sec-WebSocket-Version"
        "Sec-WebSocket-Version is not one number from 0 to 255 without leading zeros, on one line."
        "Send Sec-WebSocket-Version: 13, once.";
    VersionUnsupported 426 "ws_version_unsupported" "WebSocket version not supported"
        "The only version of the WebSocket protocol spoken here is 13 (RFC 6455)."
        "Send Sec-WebSocket-Version: 13.";
    KeyMissing 400 "ws_key_missing" "Sec-WebSocket-Key is missing"
        "A request for a WebSocket must have a key."
        "Add Sec-WebSocket-Key with 16 random bytes in base64, for example the output of: openssl rand -base64 16";
    KeyMalformed 400 "ws_key_malformed" "Malformed Sec-WebSocket-Key"
        "Sec-WebSocket-Key is not the base64 of 16 bytes, which has 24 characters and ends in ==."
        "Send 16 random bytes in base64, for example the output of: openssl rand -base64 16";
    KeyRepeated 400 "ws_key_repeated" "Sec-WebSocket-Key is repeated"
        "The head has more than one Sec-WebSocket-Key line."
        "Send exactly one.";
    OriginRefused 403 "origin_refused" "Origin not allowed"
        "Pages of this Origin may not use this server."
        "Add the page's origin to MOONGATE_ORIGINS, as in MOONGATE_ORIGINS=https://app.example.com; behind a proxy that changes Host, MOONGATE_ORIGINS=same needs proxy_set_header Host $http_host;.";
    SubscribeOnly 403 "subscribe_only" "Publishing is not allowed"
        "Who connects here without credentials may listen but not publish."
        "Set MOONGATE_ANONYMOUS=publish (on a public address together with MOONGATE_INSECURE=1), or publish through the control listener.";
    SubprotocolMalformed 400 "subprotocol_malformed" "Malformed Sec-WebSocket-Protocol"
        "Sec-WebSocket-Protocol is not a list of tokens."
        "Name subprotocols in ASCII without spaces, separated by commas, or leave the field out.";
    SubprotocolRepeated 400 "subprotocol_repeated" "Repeated subprotocol"
        "Sec-WebSocket-Protocol names a subprotocol twice."
        "Name each subprotocol once.";
    SubprotocolRequired 400 "subprotocol_required" "Subprotocol required"
        "On this path topics are named in a subprotocol, and the request offers none that is enabled."
        "Offer a subprotocol in Sec-WebSocket-Protocol, or connect to /topics/<name>.";
    ExtensionsMalformed 400 "extensions_malformed" "Malformed Sec-WebSocket-Extensions"
        "Sec-WebSocket-Extensions does not follow the grammar of RFC 6455, section 9.1."
        "Send a value such as permessage-deflate; client_max_window_bits, or leave the field out.";
    Expectation 417 "expectation" "Expectation not met"
        "The Expect field asks for something other than 100-continue."
        "Leave the Expect field out.";

    BodyTooLarge 413 "body_too_large" "Message too large"
        "The body is larger than MOONGATE_MESSAGE_BYTES_MAX."
        "Send less at once, or raise MOONGATE_MESSAGE_BYTES_MAX.";
    BadChunk 400 "bad_chunk" "Malformed chunk"
        "The chunked body does not follow the grammar of RFC 9112, section 7.1, or its extensions and trailers are too large."
        "Send Content-Length in place of Transfer-Encoding: chunked, or see what a proxy in between does to the body.";
    BodyIncomplete 400 "body_incomplete" "Body cut short"
        "The connection's sending side was closed before the body's end."
        "Send as many bytes as Content-Length says, or the last chunk.";
    BodyTimeout 408 "body_timeout" "Body too slow"
        "The body was not complete in time."
        "Send the body at once.";
    SinceMalformed 400 "since_malformed" "Malformed since"
        "The query's since is neither 0 nor an epoch and an offset, or is there twice."
        "Use ?since=0 for all that is kept, or ?since=<epoch>-<offset> as in an event's id, such as 5f3a9c0e11d2b477-42.";
    NotJson 400 "not_json" "Body is not JSON"
        "The body is said to be application/json and is not one JSON value, or arrays and objects in it are more than 128 deep."
        "Send one JSON value, or another Content-Type: text/plain keeps the body as it is.";
    NotText 415 "not_text" "Body is not UTF-8"
        "The body is not valid UTF-8, and its Content-Type does not say that it is binary."
        "Send text as UTF-8, or bytes with Content-Type: application/octet-stream, as in curl -H 'Content-Type: application/octet-stream' --data-binary @file http://<host>/topics/<name>";

    HeadTimeout 408 "head_timeout" "Request head too slow"
        "The request head was not complete within MOONGATE_HEAD_TIMEOUT."
        "Send the whole head at once; on very slow links raise MOONGATE_HEAD_TIMEOUT.";
    ConnectionsFull 503 "connections_full" "Too many connections"
        "As many connections are open as MOONGATE_CONNECTIONS_MAX allows."
        "Try again later, raise MOONGATE_CONNECTIONS_MAX, or add another gateway.";
    TopicsFull 503 "topics_full" "Too many topics"
        "As many topics exist as MOONGATE_TOPICS_MAX allows."
        "Use a topic that exists, wait until one is forgotten, or raise MOONGATE_TOPICS_MAX.";
    MemoryFull 503 "memory_full" "Memory is full"
        "The gateway holds as many bytes as MOONGATE_MEMORY_BYTES_MAX allows."
        "Try again later, or raise MOONGATE_MEMORY_BYTES_MAX.";
    Busy 503 "busy" "Too busy"
        "A queue inside the gateway is full."
        "Try again later.";
    NotOrdered 503 "not_ordered" "Not confirmed in time"
        "The topic's home did not confirm the message in time. It may or may not be delivered."
        "Try again later; subscribers may then see the message twice.";
    Draining 503 "draining" "Shutting down"
        "This gateway is stopping and takes nothing new."
        "Connect again: another gateway, or this one once it is back, will answer.";

    PathDotSegment 400 "path_dot_segment" "Dot segment in a path"
        "A segment of the path is . or .., plain or encoded. It could lead the server behind this route out of what the route is for."
        "Resolve the path before it is sent; every URL library and browser does.";
    TraceRefused 405 "trace_refused" "TRACE is not passed on"
        "TRACE would show the client what is added on the way to the server behind this route."
        "Use another method; curl -v shows what is sent.";
    UpstreamUnresolved 502 "upstream_unresolved" "Upstream has no address"
        "The name of the server behind this route does not resolve."
        "Check the name in MOONGATE_ROUTES with: getent ahosts <name>. The log says when it changes, and why.";
    UpstreamUnreachable 502 "upstream_unreachable" "Upstream not reachable"
        "The server behind this route takes no connection."
        "Check that it runs and listens where MOONGATE_ROUTES says; moongate check shows the table. An upstream that refuses is left alone for a moment.";
    UpstreamClosed 502 "upstream_closed" "Upstream closed the connection"
        "The server behind this route closed the connection before its answer was complete."
        "Look into its log: it may have crashed, or not speak HTTP/1.1 there.";
    UpstreamMalformed 502 "upstream_malformed" "Malformed answer of the upstream"
        "The answer of the server behind this route breaks the rules of HTTP/1.1."
        "Look at what it sends: curl -sv --raw --http1.1 http://<upstream>/ 2>&1 | cat -A.";
    UpstreamSwitched 502 "upstream_switched" "Upstream switched to something else"
        "The server behind this route answered 101, but not with the one protocol that was asked for in Upgrade, and Connection: Upgrade."
        "Let it answer with the protocol that the request names, or list the protocol it speaks in the route's upgrade= option.";
    UpstreamConnectTimeout 504 "upstream_connect_timeout" "Upstream not connected in time"
        "No connection to the server behind this route came about within the route's connect_timeout."
        "Check that it is reachable from here and not overloaded; a firewall that drops packets looks like this. Raise connect_timeout= where the network is slow.";
    UpstreamAnswerTimeout 504 "upstream_answer_timeout" "Upstream did not answer in time"
        "The server behind this route did not begin its answer within the route's answer_timeout."
        "Look into what keeps it; where answers may take longer, as with long polling, raise answer_timeout=.";
}

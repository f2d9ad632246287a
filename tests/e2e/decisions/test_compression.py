"""Section G of docs/protocol.md, permessage-deflate, byte for byte: what is agreed, and what is sent under it."""

import struct
import zlib

import pytest

import raw
from raw import BINARY, CLOSE, KEY, PING, PONG, TEXT, Connection, frame, upgrade
from table import PATH, Switched, check_staged_end, check_switched, parametrized, switching, wish

BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
RSV1 = 0x40
CONTINUATION = 0x0
TAIL = b"\x00\x00\xff\xff"
MESSAGE = b"a message that is long enough to be worth it, " * 20


def deflate(payload: bytes, window_bits: int = 15, level: int = 9) -> bytes:
    """A message's payload as RFC 7692 §7.2.1 makes it, with no context."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def inflate(payload: bytes, window_bits: int = 15) -> bytes:
    """With a window of this size and no context; what refers further back than that raises."""
    inflater = zlib.decompressobj(-window_bits)
    message = inflater.decompress(payload + TAIL)
    assert not inflater.unused_data
    return message


def agreed(host: str, path: str, offer: str = "permessage-deflate") -> tuple[Connection, str]:
    """A connection past its 101, and what that says about extensions."""
    connection = Connection(host)
    connection.send(upgrade(path, raw.authority(host), f"Sec-WebSocket-Extensions: {offer}"))
    answer = connection.head()
    assert answer.status == 101, answer
    return connection, answer.one("Sec-WebSocket-Extensions")


def compressed(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    return frame(opcode | RSV1, payload, fin)


def heard(connection: Connection) -> tuple[int, bytes, bool]:
    """One frame of the server: opcode, payload, and whether it is compressed."""
    first, second = connection.take(2)
    assert first & 0xB0 == 0x80 and second < 0x80
    length = second
    if second == 126:
        (length,) = struct.unpack("!H", connection.take(2))
    elif second == 127:
        (length,) = struct.unpack("!Q", connection.take(8))
    return first & 0x0F, connection.take(length), bool(first & RSV1)


ACCEPTED = {
    "G4 alone": ("permessage-deflate", ""),
    "G4 as Chromium and Firefox say it": ("permessage-deflate; client_max_window_bits", ""),
    "G4 both flags": ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", ""),
    "G3 a window of the client's": ("permessage-deflate; client_max_window_bits=9", ""),
    **{f"G2 {bits} bits": (f"permessage-deflate; server_max_window_bits={bits}", f"; server_max_window_bits={bits}") for bits in range(9, 16)},
    "G2 a quoted value": ('permessage-deflate; server_max_window_bits="12"', "; server_max_window_bits=12"),
    "B24 the next offer": ("permessage-deflate; server_max_window_bits=8, permessage-deflate", ""),
    "B24 behind an unknown extension": ("x-unknown; a=b, permessage-deflate", ""),
    "G1 the first that can be accepted": (
        "permessage-deflate; mistake, permessage-deflate; server_max_window_bits=10, permessage-deflate", "; server_max_window_bits=10",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("offer", "more"), **parametrized(ACCEPTED))
def test_accepted(gateway, offer, more):
    """C4: the 101 to the last byte; then frames."""
    with Connection(gateway.listen) as connection:
        connection.send(upgrade(PATH, gateway.host, f"Sec-WebSocket-Extensions: {offer}"))
        expect = switching(KEY)[:-2] + f"Sec-WebSocket-Extensions: {BOTH}{more}\r\n\r\n".encode()
        assert connection.take(len(expect)) == expect
        connection.send(frame(PING, b"small"))
        assert heard(connection) == (PONG, b"small", False)


DECLINED = [
    "permessage-deflate; no_such_thing",
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
    "permessage-deflate; server_max_window_bits",
    *(f"permessage-deflate; server_max_window_bits={bits}" for bits in ["7", "8", "16", "08", "015", "+9", "99999", "x"]),
    *(f"permessage-deflate; client_max_window_bits={bits}" for bits in ["7", "16", "08", "x"]),
    "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
    "permessage-deflate-2",
]


@pytest.mark.parametrize("row", **parametrized({f"G1 B24 {offer}": Switched(wish(f"Sec-WebSocket-Extensions: {offer}")) for offer in DECLINED}))
def test_declined(gateway, row):
    check_switched(gateway, row)


def stored(payload: bytes, final: bool) -> bytes:
    return bytes([final]) + struct.pack("<HH", len(payload), len(payload) ^ 0xFFFF) + payload


FAR = bytes(range(256)) + b"".join(struct.pack("!I", number * 2654435761 % 2**32) for number in range(7900)) + bytes(range(256))

INFLATED = {
    "G7 a message": (compressed(TEXT, deflate(MESSAGE)), TEXT, MESSAGE),
    "G7 a message of nothing": (compressed(BINARY, b"\x00"), BINARY, b""),
    "G7 no payload at all": (compressed(BINARY, b""), BINARY, b""),
    "G7 the example of RFC 7692 §7.2.3.1": (compressed(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00"), TEXT, b"Hello"),
    "G7 a stored block, §7.2.3.3": (compressed(TEXT, b"\x00\x05\x00\xfa\xffHello\x00"), TEXT, b"Hello"),
    "G7 a final block, §7.2.3.4": (compressed(TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), TEXT, b"Hello"),
    "G7 two blocks, §7.2.3.5": (compressed(TEXT, b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), TEXT, b"Hello"),
    "G7 many blocks": (compressed(BINARY, stored(b"ab", False) * 500 + b"\x00"), BINARY, b"ab" * 500),
    "G6 in fragments": (
        compressed(TEXT, deflate(MESSAGE)[:9], fin=False) + frame(PING, b"") + frame(CONTINUATION, deflate(MESSAGE)[9:]), TEXT, MESSAGE,
    ),
    "G6 cut into single bytes": (
        compressed(TEXT, b"", fin=False) + b"".join(frame(CONTINUATION, deflate(MESSAGE)[at : at + 1], fin=False) for at in range(len(deflate(MESSAGE))))
        + frame(CONTINUATION, b""), TEXT, MESSAGE,
    ),
    "G8 a message that is not compressed": (frame(TEXT, MESSAGE), TEXT, MESSAGE),
    "G5 a reference 31 KiB back": (compressed(BINARY, deflate(FAR)), BINARY, FAR),
    "F4 a character over a block's end": (
        compressed(TEXT, stored("€".encode()[:2], False) + stored("€".encode()[2:], False) + b"\x00"), TEXT, "€".encode(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; client_max_window_bits=9"])
@pytest.mark.parametrize(("sent", "opcode", "message"), **parametrized(INFLATED))
def test_inflated(gateway, offer, sent, opcode, message):
    """G5: whatever the offer said about the client's window, what it sends is understood. Sent twice, dripped too."""
    connection, _ = agreed(gateway.listen, "/echo", offer)
    with connection:
        for size in [len(sent), 1 if len(sent) < 4000 else 1000]:
            for at in range(0, len(sent), size):
                connection.send(sent[at : at + size])
            found, payload, is_compressed = heard(connection)
            if found == PONG:
                found, payload, is_compressed = heard(connection)
            assert (found, inflate(payload) if is_compressed else payload) == (opcode, message)


# 50 MB in 49 KB.
BOMB = deflate(b"\0" * 50_000_000)

WITH_CONTEXT = zlib.compressobj(9, zlib.DEFLATED, -15)
FIRST = (WITH_CONTEXT.compress(MESSAGE) + WITH_CONTEXT.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
SECOND = (WITH_CONTEXT.compress(MESSAGE) + WITH_CONTEXT.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)

WRONG = {
    "G6 a compressed ping": (compressed(PING, b"x"), 1002),
    "G6 a compressed Close": (compressed(CLOSE, b"\x03\xe8"), 1002),
    "G6 RSV1 on a continuation": (compressed(TEXT, b"", fin=False) + compressed(CONTINUATION, b"\x00"), 1002),
    "D3 RSV2 beside RSV1": (frame(TEXT | RSV1 | 0x20, b"\x00"), 1002),
    "D3 RSV3": (frame(TEXT | 0x10, b"x"), 1002),
    "G9 no deflate at all": (compressed(BINARY, b"\xff" * 20), 1007),
    "G9 a stored block that lies about its length": (compressed(BINARY, b"\x00\x05\x00\x00\x00Hello\x00"), 1007),
    "G9 a block that is cut": (compressed(BINARY, deflate(MESSAGE)[:-8]), 1007),
    "G8 a message that leans on the one before": (compressed(BINARY, FIRST) + compressed(BINARY, SECOND), 1007),
    "F4 not UTF-8 once it is inflated": (compressed(TEXT, deflate(b"\xff" * 400)), 1007),
    "F4 cut once it is inflated": (compressed(TEXT, deflate(b"x" * 400 + b"\xe2\x82")), 1007),
    "G10 a bomb": (compressed(BINARY, BOMB), 1009),
    "G10 a bomb in fragments": (
        compressed(BINARY, BOMB[:20_000], fin=False) + frame(CONTINUATION, BOMB[20_000:]), 1009,
    ),
    "G10 one byte too many": (compressed(BINARY, deflate(b"x" * 65_537)), 1009),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "code"), **parametrized(WRONG))
def test_wrong(gateway, wrong, code):
    connection, _ = agreed(gateway.listen, "/echo")
    with connection:
        connection.send(wrong + frame(PING, b"after"))
        opcode, payload, _ = heard(connection)
        if code == 1007 and opcode == BINARY:
            opcode, payload, _ = heard(connection)
        assert opcode == CLOSE and struct.unpack("!H", payload[:2])[0] == code and payload[2:]
        assert connection.rest() == b"", "E7"
        check_staged_end(connection)


def test_g6_rsv1_without_an_agreement(gateway):
    with raw.open_websocket(gateway.listen, "/echo") as connection:
        connection.send(compressed(TEXT, deflate(MESSAGE)))
        assert connection.close_frame()[0] == 1002


def test_g2_g13_g14_one_form_for_all_and_for_each_window(gateway, topic):
    """Who agreed to the same gets the same bytes, each message by itself; nobody's window is exceeded; others get it plain."""
    path, offer = f"/topics/{topic}", "permessage-deflate; server_max_window_bits="
    message = FAR[:20_000] + FAR[:20_000]
    wide = [agreed(gateway.listen, path)[0] for _ in range(3)]
    narrow = [agreed(gateway.listen, path, offer + bits)[0] for bits in ("9", "9", "12")]
    with raw.open_websocket(gateway.listen, path) as plain:
        bytes_of = {}
        for _ in range(2):
            assert raw.post(gateway.listen, path, MESSAGE * 3).status == 200
            assert raw.post(gateway.listen, path, message, "Content-Type: application/octet-stream").status == 200
            assert plain.frame() == (TEXT, MESSAGE * 3) and plain.frame() == (BINARY, message)
            for number, connection in enumerate(wide + narrow):
                window_bits = {3: 9, 4: 9, 5: 12}.get(number, 15)
                for expect in (MESSAGE * 3, message):
                    _, payload, is_compressed = heard(connection)
                    assert (inflate(payload, window_bits) if is_compressed else payload) == expect
                    assert is_compressed or expect is message
                    bytes_of.setdefault((number, expect), set()).add(payload)
        assert all(len(payloads) == 1 for payloads in bytes_of.values()), "G13: nothing of one message is in another's"
        for expect in (MESSAGE * 3, message):
            assert bytes_of[0, expect] == bytes_of[1, expect] == bytes_of[2, expect], "G14"
            assert bytes_of[3, expect] == bytes_of[4, expect], "G14"
    for connection in wide + narrow:
        connection.socket.close()


def test_g15_small_messages_go_as_they_are(gateway, topic):
    connection, _ = agreed(gateway.listen, f"/topics/{topic}")
    with connection:
        for size, expect in [(1, False), (255, False), (256, True), (5000, True)]:
            assert raw.post(gateway.listen, f"/topics/{topic}", b"x" * size).status == 200
            assert heard(connection)[2] == expect, size


def test_g13_it_can_be_turned_off(start):
    gateway = start(DEFLATE="off")
    check_switched(gateway, Switched(wish("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")))

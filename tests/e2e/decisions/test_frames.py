"""Sections D, E, F and K of docs/protocol.md as far as they show on the wire: frames, their ends, text, and limits."""

import signal
import socket
import struct
import threading
import time

import pytest

from gateway import until
from raw import BINARY, CLOSE, PING, PONG, TEXT, frame, open_websocket
from table import CLOSED, PATH, check_staged_end, tcp_state

CONTINUATION = 0x0
MASK = b"\x37\xfa\x21\x3d"
HELLO = frame(TEXT, b"hello")


def header(first: int, length: bytes, payload: bytes = b"") -> bytes:
    """A frame whose length is spelt as given; the mask bit is set."""
    return bytes([first, 0x80 | length[0]]) + length[1:] + b"\0\0\0\0" + payload


def length64(length: int) -> bytes:
    return b"\x7f" + struct.pack("!Q", length)


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


# What breaks a rule, the code it is told, and what the reason names.
WRONG = {
    "D1 no mask": (b"\x81\x02hi", 1002, "mask"),
    "D1 no mask on a ping": (b"\x89\x00", 1002, "mask"),
    "D1 no mask on a Close": (b"\x88\x02\x03\xe8", 1002, "mask"),
    **{f"D3 reserved bits {bits:03b}": (header(0x81 | bits << 4, b"\0"), 1002, "reserved bits") for bits in range(1, 8)},
    **{f"D3 reserved bits {bits:03b} on a ping": (header(0x89 | bits << 4, b"\0"), 1002, "reserved bits") for bits in (1, 2, 4)},
    "D3 RSV1 on a continuation": (frame(TEXT, b"a", fin=False) + header(0xC0, b"\0"), 1002, "reserved bits"),
    **{f"D4 opcode {opcode:x}": (frame(opcode, b"hi"), 1002, "opcode") for opcode in [*range(0x3, 0x8), *range(0xB, 0x10)]},
    "D5 16 bits for 125": (header(0x82, b"\x7e\x00\x7d", b"x" * 125), 1002, "length"),
    "D5 16 bits for nothing": (header(0x82, b"\x7e\x00\x00"), 1002, "length"),
    "D5 64 bits for 1": (header(0x82, length64(1), b"x"), 1002, "length"),
    "D5 64 bits for 65,535": (header(0x82, length64(65_535), b"x" * 65_535), 1002, "length"),
    "D6 2^63": (header(0x82, length64(1 << 63)), 1002, "length"),
    "D6 2^64-4": (header(0x82, length64((1 << 64) - 4)), 1002, "length"),
    "D6 2^64-1": (header(0x82, length64((1 << 64) - 1)), 1002, "length"),
    "D6 2^63 without a mask": (b"\x82\x7f\x80\0\0\0\0\0\0\0", 1002, "mask"),
    "D6 2^63-1": (header(0x82, length64((1 << 63) - 1)), 1009, ""),
    "D6 2^63-1 as a later fragment": (frame(TEXT, b"a", fin=False) + header(0x80, length64((1 << 63) - 1)), 1009, ""),
    "D6 2^32": (header(0x82, length64(1 << 32)), 1009, ""),
    "D7 a ping in fragments": (frame(PING, b"hi", fin=False), 1002, "control frame"),
    "D7 a Close in fragments": (frame(CLOSE, b"\x03\xe8", fin=False), 1002, "control frame"),
    "D7 a ping of 126 bytes": (frame(PING, b"x" * 126), 1002, "125"),
    "D7 a pong of 126 bytes": (frame(PONG, b"x" * 126), 1002, "125"),
    "D7 a Close of 126 bytes": (closing(1000, b"x" * 124), 1002, "125"),
    "D9 a continuation of nothing": (frame(CONTINUATION, b"hi"), 1002, "ontinuation"),
    "D9 a continuation of nothing, and more to come": (frame(CONTINUATION, b"hi", fin=False), 1002, "ontinuation"),
    "D9 a message inside a message": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002, "message"),
    "D9 a first fragment inside a message": (frame(TEXT, b"a", fin=False) + frame(BINARY, b"b", fin=False), 1002, "message"),
    "D9 a continuation behind the end": (frame(PONG, b"") + frame(CONTINUATION, b"b"), 1002, "ontinuation"),
    "E1 a Close of one byte": (frame(CLOSE, b"\x03"), 1002, "close code"),
    **{
        f"E2 code {code}": (closing(code), 1002, "close code")
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]
    },
    "E4 a reason that is no text": (closing(1000, b"\xff"), 1007, "UTF-8"),
    "E4 a reason that is cut": (closing(1000, b"\xe2\x82"), 1007, "UTF-8"),
    "F1 not UTF-8": (frame(TEXT, b"a\xffb"), 1007, "UTF-8"),
    "F1 wrong over a fragment's end": (frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"\x28\xa1"), 1007, "UTF-8"),
    "F1 cut by a fragment without content": (frame(TEXT, b"\xe2\x82", fin=False) + frame(CONTINUATION, b""), 1007, "UTF-8"),
    "F3 overlong": (frame(TEXT, b"\xc0\xaf"), 1007, "UTF-8"),
    "F3 overlong, three bytes": (frame(TEXT, b"\xe0\x80\xaf"), 1007, "UTF-8"),
    "F3 a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007, "UTF-8"),
    "F3 past U+10FFFF": (frame(TEXT, b"\xf4\x90\x80\x80"), 1007, "UTF-8"),
    "F3 a cut tail": (frame(TEXT, b"ok \xf0\x9f\x8c"), 1007, "UTF-8"),
    "F3 a continuation byte first": (frame(TEXT, b"\x80"), 1007, "UTF-8"),
    "E13 K2 a message that is too big": (frame(BINARY, b"x" * 65_537), 1009, ""),
    "K2 fragments that are too big together": (
        frame(BINARY, b"x" * 60_000, fin=False) + frame(CONTINUATION, b"x" * 6_000), 1009, "",
    ),
    "K2 empty fragments without end": (frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 20_000, 1009, ""),
    "K2 fragments of one byte without end": (frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * 20_000, 1009, ""),
}  # fmt: skip


@pytest.mark.parametrize("place", ["/echo", PATH])
@pytest.mark.parametrize(("wrong", "code", "reason"), WRONG.values(), ids=WRONG.keys())
def test_a_broken_rule(gateway, place, wrong, code, reason):
    """E13: what came before is answered, the rule is named, and nothing behind it is looked at (E7), dripped or not (D11)."""
    for size in {len(wrong), 1 if len(wrong) < 300 else len(wrong)}:
        with open_websocket(gateway.listen, place) as connection:
            connection.send(frame(PING, b"before"))
            assert connection.frame() == (PONG, b"before")
            for at in range(0, len(wrong), size):
                connection.send(wrong[at : at + size])
            connection.send(frame(PING, b"after") + HELLO + closing(1000))
            told, why = connection.close_frame()
            assert told == code and why and reason in why
            assert connection.rest() == b"", "E7: nothing comes after the Close"
            check_staged_end(connection)


# What is right though it looks odd, and what the echo makes of it.
RIGHT = {
    "D5 125 bytes": (frame(BINARY, b"x" * 125), [(BINARY, b"x" * 125)]),
    "D5 126 bytes": (frame(BINARY, b"x" * 126), [(BINARY, b"x" * 126)]),
    "D5 65,535 bytes": (frame(BINARY, b"x" * 65_535), [(BINARY, b"x" * 65_535)]),
    "D5 65,536 bytes": (frame(BINARY, b"x" * 65_536), [(BINARY, b"x" * 65_536)]),
    "D7 a ping of 125 bytes": (frame(PING, b"p" * 125), [(PONG, b"p" * 125)]),
    "D8 a ping between fragments": (
        frame(TEXT, b"a", fin=False) + frame(PING, b"now") + frame(CONTINUATION, b"b"), [(PONG, b"now"), (TEXT, b"ab")],
    ),
    "D8 a pong between fragments": (frame(TEXT, b"a", fin=False) + frame(PONG, b"x") + frame(CONTINUATION, b"b"), [(TEXT, b"ab")]),
    "D10 a message of nothing": (frame(TEXT, b"") + frame(BINARY, b""), [(TEXT, b""), (BINARY, b"")]),
    "D10 empty fragments": (
        frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, b"a", fin=False) + frame(CONTINUATION, b""),
        [(TEXT, b"a")],
    ),
    "D10 fragments of one byte": (
        frame(BINARY, b"0", fin=False) + b"".join(frame(CONTINUATION, b"%d" % (n % 10), fin=False) for n in range(1, 200)) + frame(CONTINUATION, b""),
        [(BINARY, b"".join(b"%d" % (n % 10) for n in range(200)))],
    ),
    "D12 an empty ping": (frame(PING, b""), [(PONG, b"")]),
    "D13 a pong nobody asked for": (frame(PONG, b"x" * 125) + frame(PONG, b"") + HELLO, [(TEXT, b"hello")]),
    "D14 no mask at all but four zeros": (frame(TEXT, b"hello", mask=b"\0\0\0\0"), [(TEXT, b"hello")]),
    "D14 a mask that ends the key's turn in the middle": (
        frame(TEXT, b"abcde", fin=False, mask=MASK) + frame(CONTINUATION, b"fgh", mask=MASK), [(TEXT, b"abcdefgh")],
    ),
    "D14 a payload that looks like a frame": (frame(BINARY, HELLO, mask=b"\xff\xff\xff\xff"), [(BINARY, HELLO)]),
    "F1 a character over fragments": (
        frame(TEXT, b"\xf0", fin=False) + frame(CONTINUATION, b"\x9f\x8c", fin=False) + frame(PING, b"") + frame(CONTINUATION, b"\x95"),
        [(PONG, b""), (TEXT, "🌕".encode())],
    ),
    "F3 characters that are none": (frame(TEXT, "\ufffe\uffff\U0010ffff\0".encode()), [(TEXT, "\ufffe\uffff\U0010ffff\0".encode())]),
    "K2 the largest message": (frame(BINARY, b"x" * 65_536), [(BINARY, b"x" * 65_536)]),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "expect"), RIGHT.values(), ids=RIGHT.keys())
def test_what_is_right(gateway, sent, expect):
    """D2, D5: each answer is whole, unmasked, and its length is in the fewest bytes; D11: dripped or not."""
    for size in {len(sent), 1 if len(sent) < 3000 else 1000}:
        with open_websocket(gateway.listen, "/echo") as connection:
            for at in range(0, len(sent), size):
                connection.send(sent[at : at + size])
            for opcode, payload in expect:
                assert connection.frame() == (opcode, payload)
            connection.send(closing(1000))
            assert connection.close_frame() == (1000, "")


def test_d8_a_ping_is_answered_before_its_message_ends(gateway):
    with open_websocket(gateway.listen, "/echo") as connection:
        connection.send(frame(TEXT, b"begun", fin=False) + frame(PING, b"now"))
        assert connection.frame() == (PONG, b"now")
        connection.send(header(0x80, b"\x05") + b"en")
        connection.send(b"ded")
        assert connection.frame() == (TEXT, b"begunended")


def test_d16_large_messages_of_many_never_mix(gateway, topic):
    """Four speakers, each with messages longer than any send: the listener gets whole ones, each speaker's in order."""
    speakers, messages, size = 4, 12, 60_000
    with open_websocket(gateway.listen, f"/topics/{topic}") as listener:

        def speak(number: int):
            with open_websocket(gateway.listen, f"/topics/{topic}") as speaker:
                for count in range(messages):
                    payload = bytes([number, count]) * (size // 2)
                    for at in range(0, size, 20_000):
                        opcode = CONTINUATION if at else BINARY
                        speaker.send(frame(opcode, payload[at : at + 20_000], fin=at + 20_000 >= size, mask=MASK))
                    # Reads along, so that nobody falls too far behind.
                    while speaker.frame() != (BINARY, payload):
                        pass

        threads = [threading.Thread(target=speak, args=(number,)) for number in range(speakers)]
        for thread in threads:
            thread.start()
        heard = {number: 0 for number in range(speakers)}
        for _ in range(speakers * messages):
            opcode, payload = listener.frame()
            number, count = payload[:2]
            assert opcode == BINARY and payload == bytes([number, count]) * (size // 2)
            assert count == heard[number]
            heard[number] += 1
        for thread in threads:
            thread.join()


# What a Close is answered with. RFC 6455 §5.5.1: the same code; 1010 is a client's alone to send.
CLOSES = {f"E2 E5 code {code}": (closing(code), code) for code in [*range(1000, 1004), *range(1007, 1010), *range(1011, 1015)]} | {
    f"E2 E5 code {code}": (closing(code), code) for code in [3000, 3999, 4000, 4321, 4999]
} | {
    "E3 E5 code 1010": (closing(1010), 1000),
    "E1 E5 no code": (frame(CLOSE, b""), None),
    "E4 E5 a reason": (closing(1000, "auf Wiedersehen 🌕".encode()), 1000),
    "E4 E5 the longest reason": (closing(1000, b"r" * 123), 1000),
    "E9 inside a message": (frame(TEXT, b"begun", fin=False) + closing(1000), 1000),
    "E8 ping and data behind it": (closing(1000) + frame(PING, b"?") + HELLO, 1000),
    "E8 another Close behind it": (closing(1000) + closing(1001), 1000),
    "E8 a broken rule behind it": (closing(1000) + b"\xff\xff\xff\xff", 1000),
}  # fmt: skip


@pytest.mark.parametrize("place", ["/echo", PATH])
@pytest.mark.parametrize(("sent", "code"), CLOSES.values(), ids=CLOSES.keys())
def test_a_close_is_answered(gateway, place, sent, code):
    """E5, E6, D15: one Close, nothing behind it, and the server is the first to end."""
    for size in {len(sent), 1}:
        with open_websocket(gateway.listen, place) as connection:
            for at in range(0, len(sent), size):
                connection.send(sent[at : at + size])
            assert connection.close_frame() == (code, "")
            assert connection.rest() == b"", "D15"
            check_staged_end(connection)


def test_e10_who_never_answers_a_close_is_reset(start):
    """Our FIN is out and the peer keeps its side open: it is not waited for any longer than that."""
    gateway = start(CLOSE_TIMEOUT="2s")
    with open_websocket(gateway.listen, PATH) as connection:
        connection.send(b"\x81\x00")
        assert connection.close_frame()[0] == 1002
        assert connection.rest() == b""
        until("the reset", lambda: tcp_state(connection) == CLOSED)


def test_e10_who_goes_on_sending_after_its_close_is_reset(start):
    """What is thrown away is bounded too."""
    gateway = start(CLOSE_TIMEOUT="1m")
    with open_websocket(gateway.listen, PATH) as connection:
        connection.send(closing(1000))
        assert connection.close_frame()[0] == 1000
        with pytest.raises(OSError):
            for _ in range(64):
                connection.send(b"x" * 65_536)
                time.sleep(0.001)


def test_e11_e14_both_ends_say_close_at_once(start):
    """The gateway stops while its clients leave: each hears one Close and a clean end."""
    gateway = start(DRAIN_TIMEOUT="200ms")
    clients = [open_websocket(gateway.listen, "/echo") for _ in range(60)]
    gateway.signal(signal.SIGTERM)
    for client in clients:
        client.send(closing(1000))
    codes = set()
    for client in clients:
        codes.add(client.close_frame()[0])
        assert client.rest() == b""
        client.socket.close()
    assert codes <= {1000, 1001}
    assert gateway.wait() == 0, gateway.log


def test_e12_a_fin_without_a_close_gets_none(gateway):
    """1006 is never on the wire: who hangs up without a word is not spoken to."""
    with open_websocket(gateway.listen, PATH) as connection:
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.rest() == b""


def test_f2_wrong_text_is_told_at_its_first_byte(gateway):
    """The rest of the message, the frame even, has not arrived and never does."""
    for arrived in [
        frame(TEXT, b"\xce\xba\xff" + b"x" * 60_000)[:11],
        frame(TEXT, "κόσμε".encode(), fin=False) + frame(CONTINUATION, b"\xf4\x90" + b"x" * 1000, mask=MASK)[:10],
        frame(TEXT, b"\xed\xa0", fin=False),
    ]:
        with open_websocket(gateway.listen, "/echo") as connection:
            connection.send(arrived)
            assert connection.close_frame()[0] == 1007
            assert connection.rest() == b""


def test_d6_no_memory_for_what_is_only_announced(start):
    """A hundred peers announce a message of the largest size and send one byte of it."""
    gateway = start(MESSAGE_BYTES_MAX="16MiB", OUTBOX_BYTES_MAX="64MiB")
    with open_websocket(gateway.listen, PATH):
        before = resident(gateway)
    peers = [open_websocket(gateway.listen, PATH) for _ in range(100)]
    for peer in peers:
        peer.send(header(0x82, length64(16 << 20), b"x"))
        peer.send(b"y")
    with open_websocket(gateway.listen, PATH) as last:
        last.send(frame(PING, b"in time"))
        assert last.frame() == (PONG, b"in time")
    assert resident(gateway) - before < 16 << 20, "less than for one of them"
    for peer in peers:
        peer.socket.close()


def resident(gateway) -> int:
    """Bytes of memory in use."""
    with open(f"/proc/{gateway.pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def test_k3_pings_of_a_peer_that_never_reads(start):
    """D12: only the latest is owed an answer, so that 300,000 of them hold no memory; and the latest gets it."""
    count = 300_000
    gateway = start(SHARDS="1", SEND_UNSENT_BYTES_MAX="16KiB")
    with open_websocket(gateway.listen, PATH, receive_buffer=8192) as connection:
        before = resident(gateway)
        for first in range(0, count, 1000):
            connection.send(b"".join(frame(PING, b"%120d" % number, mask=MASK) for number in range(first, first + 1000)))
        answered, heard = 0, -1
        while heard != count - 1:
            opcode, payload = connection.frame()
            assert opcode == PONG and int(payload) > heard, "in order, each at most once"
            heard = int(payload)
            answered += 1
        assert answered < count, "some were left out"
        assert resident(gateway) - before < 8 << 20

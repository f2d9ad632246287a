"""Runs a program where the kernel refuses some system calls, as the seccomp filters of container runtimes do.

    forbid.py EPERM io_uring_setup -- moongate
    forbid.py EPERM buffer_rings -- moongate      io_uring_register, but only for rings of buffers
    forbid.py EPERM profile.json -- moongate      all that a container runtime's profile does not allow
"""

import ctypes
import errno
import glob
import json
import os
import re
import struct
import sys

# The same on every architecture (include/uapi/asm-generic/unistd.h).
SYSCALLS = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
# IORING_REGISTER_PBUF_RING, the second argument of io_uring_register.
REGISTER_PBUF_RING = 22

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, MODE_FILTER = 22, 38, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
# Where struct seccomp_data has the number of the call, and the lower half of its second argument.
NUMBER, SECOND = 0, 24


def step(code: int, k: int, otherwise: int = 0) -> bytes:
    """One struct sock_filter; where a comparison fails, `otherwise` steps are left out."""
    return struct.pack("=HBBI", code, 0, otherwise, k)


def numbers() -> dict[str, int]:
    """Every system call of this machine, from the kernel's headers, which come with every C compiler."""
    found: dict[str, int] = {}
    for header in glob.glob(f"/usr/include/{os.uname().machine}-linux-gnu/asm/unistd_64.h") or ["/usr/include/asm/unistd_64.h"]:
        with open(header) as lines:
            found |= {name: int(number) for name, number in re.findall(r"#define __NR_(\w+)\s+(\d+)", lines.read())}
    return found


def program(what: str, number: int) -> list[bytes]:
    fail = step(RETURN, FAIL | number)
    if what.endswith(".json"):
        with open(what) as file:
            names = [name for rule in json.load(file)["syscalls"] for name in rule["names"]]
        # Names of other architectures are passed over, as runtimes do.
        known = numbers()
        allowed = [[step(EQUAL, known[name], 1), step(RETURN, ALLOW)] for name in names if name in known]
        return [step(LOAD, NUMBER), *(part for pair in allowed for part in pair), fail]
    if what == "buffer_rings":
        steps = [step(EQUAL, SYSCALLS["io_uring_register"], 3), step(LOAD, SECOND), step(EQUAL, REGISTER_PBUF_RING, 1), fail]
    else:
        steps = [step(EQUAL, SYSCALLS[what], 1), fail]
    return [step(LOAD, NUMBER), *steps, step(RETURN, ALLOW)]


def forbid(what: str, number: int):
    """For this process, and whatever it becomes."""
    steps = program(what, number)
    code = ctypes.create_string_buffer(b"".join(steps))
    filters = struct.pack("@HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, MODE_FILTER, ctypes.c_char_p(filters), 0, 0)]:
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    name, what, separator, *command = sys.argv[1:]
    assert separator == "--" and command, __doc__
    forbid(what, getattr(errno, name))
    os.execvp(command[0], command)

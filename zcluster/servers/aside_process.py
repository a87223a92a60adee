"""The process beside the scheduler that makes one call: ``run_on_scheduler`` ends here.

It reads the call from standard input and answers on what was its standard output, in the
form that `zcluster.servers.aside` describes; what the call prints goes to standard error.
On the client's host it imports as the client does.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn

from zcluster.errors import NotSerializable, ResultNotSerializable
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import Called, Environment
from zcluster.protocol.objects import plan
from zcluster.servers import posix
from zcluster.servers.aside import HEAD
from zcluster.servers.calls import CALL_LIMIT, called_with, run_call
from zcluster.servers.failures import describe

__all__ = ["main", "make_call"]


def make_call(frames: list[bytes]) -> tuple[Called, list[bytes]]:
    """Make a call; return the answer.

    Parameters
    ----------
    frames : list of bytes
        The blob of (function, arguments, keywords), and an encoded `Environment`, perhaps.
    """
    kind = "task"
    try:
        if len(frames) > 1:
            _settle_in(Decoder((Environment,)).decode(frames[1]))
        value = run_call(frames[0], None)
        kind = "serialize"
        try:
            planned = plan(value)
        except NotSerializable as error:
            raise ResultNotSerializable(f"the result of the call cannot travel: {error}") from None
        if planned.size > CALL_LIMIT:
            raise ResultNotSerializable(
                f"the result of the call has {planned.size} bytes, expected at most {CALL_LIMIT}"
            )
        return Called(0), [planned.tobytes()]
    except BaseException as error:  # SystemExit too: the call failed
        return called_with(0, *describe(error, -1, kind, "", ""))


def _settle_in(environment: Environment) -> None:
    if environment.host != socket.gethostname():
        return
    sys.path += [path for path in environment.paths if path not in sys.path]
    try:
        os.chdir(environment.cwd)
    except OSError:
        return  # a folder that only the client sees


def _read_frames(data: bytes) -> list[bytes]:
    frames: list[bytes] = []
    at = 0
    while at < len(data):
        length = HEAD.unpack_from(data, at)[0]
        at += HEAD.size
        frames.append(data[at : at + length])
        at += length
    return frames


def main(arguments: list[str]) -> NoReturn:
    """Be the process: ``arguments`` is the parent's pid."""
    posix.die_with_parent(int(arguments[0]))
    frames = _read_frames(sys.stdin.buffer.read())
    answer = os.dup(1)
    os.dup2(2, 1)
    called, payload = make_call(frames)
    sys.stdout.flush()
    control, body = encode(called.error), b"".join(payload)
    with open(answer, "wb") as file:
        file.write(HEAD.pack(len(control), len(body)) + control + body)
    os._exit(0)  # threads that the call has left must not keep it


if __name__ == "__main__":
    main(sys.argv[1:])

"""The floor of latency: what a task's way costs when nobody thinks about it.

Three processes and the caller, in plain pyzmq, in the shape of a cluster::

    caller DEALER -> ROUTER scheduler ROUTER -> DEALER nanny ROUTER -> DEALER worker

and back, over ``ipc://``, with a control frame and a payload frame of the size a small call
has. The processes pass frames on and do nothing else: no core, no pickle, no thread, no
credits. A scheduler cannot be quicker than this; how near it comes is the benchmark.

``python echo.py ROLE FOLDER`` runs one of the processes; `echoes` starts them all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time

import zmq

CONTROL = bytes(range(96))
PAYLOAD = bytes(range(64))
ROLES = ("scheduler", "nanny", "worker")  # the order in which they are reached
TIMEOUT = 10_000  # ms; ipc on one machine: only a dead process takes that long


def connected(
    context: zmq.Context[zmq.Socket[bytes]], address: str, name: bytes
) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, name)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(address)
    return socket


def bound(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(address)
    return socket


def scheduler(context: zmq.Context[zmq.Socket[bytes]], folder: str) -> None:
    """Frames come with their sender in front, and leave with their receiver there."""
    socket = bound(context, f"ipc://{folder}/scheduler")
    nanny = socket.recv_multipart()[0]  # its hello; nobody else has been started yet
    print("ready", flush=True)
    while True:
        sender, first, *rest = socket.recv_multipart()
        if sender == nanny:
            socket.send_multipart([first, *rest])
        else:
            socket.send_multipart([nanny, sender, first, *rest])


def nanny(context: zmq.Context[zmq.Socket[bytes]], folder: str) -> None:
    """Between the scheduler's socket and the workers' socket, both polled."""
    below = bound(context, f"ipc://{folder}/nanny")
    worker = below.recv_multipart()[0]
    above = connected(context, f"ipc://{folder}/scheduler", b"nanny")
    above.send(b"hello")
    poller = zmq.Poller()
    poller.register(above, zmq.POLLIN)
    poller.register(below, zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            if socket is above:
                below.send_multipart([worker, *above.recv_multipart()])
            else:
                above.send_multipart(below.recv_multipart()[1:])


def worker(context: zmq.Context[zmq.Socket[bytes]], folder: str) -> None:
    socket = connected(context, f"ipc://{folder}/nanny", b"worker")
    socket.send(b"hello")
    while True:
        socket.send_multipart(socket.recv_multipart())


def echoes(number: int, warm_up: int = 50) -> list[float]:
    """Seconds of each of `number` trips to the worker and back, one at a time.

    Raises
    ------
    RuntimeError
        An echo did not come back as it left, or not in time.
    """
    with tempfile.TemporaryDirectory(prefix="echo") as folder:
        started = [
            subprocess.Popen(
                [sys.executable, os.path.abspath(__file__), role, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for role in ROLES
        ]
        try:
            ready = started[0].stdout
            if ready is None or ready.readline() != b"ready\n":
                raise RuntimeError("echo: the scheduler did not start; run `python echo.py`")
            return trips(folder, number, warm_up)
        finally:
            for process in started:
                process.kill()
                process.communicate()


def trips(folder: str, number: int, warm_up: int) -> list[float]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, connected(context, f"ipc://{folder}/scheduler", b"caller") as socket:
        socket.setsockopt(zmq.RCVTIMEO, TIMEOUT)
        spent = []
        for _ in range(warm_up + number):
            start = time.perf_counter()
            socket.send_multipart([CONTROL, PAYLOAD])
            found = socket.recv_multipart()
            spent.append(time.perf_counter() - start)
            if found != [CONTROL, PAYLOAD]:
                raise RuntimeError(f"echo: {found!r} came back for [CONTROL, PAYLOAD]")
        return spent[warm_up:]


def end_with_parent() -> None:
    """Our standard input is a pipe of the parent: its end is the parent's end."""
    sys.stdin.buffer.read()
    os._exit(0)


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in ROLES:
        print(f"usage: python echo.py {'|'.join(ROLES)} FOLDER", file=sys.stderr)
        return 2
    threading.Thread(target=end_with_parent, daemon=True).start()
    role, folder = arguments
    {"scheduler": scheduler, "nanny": nanny, "worker": worker}[role](zmq.Context(), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""With keys, not one message gets past a socket but of those who may enter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import zmq

from zcluster.transport.gate import Gate, user_of
from zcluster.transport.keys import Keys, make_keys
from zcluster.transport.loop import Loop
from zcluster.transport.sockets import socket

KEYS = make_keys()
OTHERS = make_keys()


@pytest.fixture
def served() -> Iterator[tuple[Loop, str, list[tuple[str, bytes]]]]:
    """Return a loop, the address of a socket with keys, and what is heard there."""
    loop, context = Loop(), zmq.Context[Any]()
    heard: list[tuple[str, bytes]] = []
    gate = Gate(loop, context, KEYS)
    router = socket(context, zmq.ROUTER)
    KEYS.serve(router, "scheduler")
    port = router.bind_to_random_port("tcp://127.0.0.1")

    def hear() -> None:
        head = router.recv(copy=False)
        heard.append((user_of(head), router.recv_multipart()[-1]))

    loop.add_socket(router, hear)
    yield loop, f"tcp://127.0.0.1:{port}", heard
    router.close(0)
    gate.close()
    loop.close()
    context.term()


def speak(loop: Loop, address: str, prepare: Callable[[zmq.Socket[Any]], Any]) -> int:
    """Say something from another context; return the event by which it was let in or refused."""
    context = zmq.Context[Any]()
    dealer = socket(context, zmq.DEALER)
    events = dealer.get_monitor_socket(
        zmq.EVENT_HANDSHAKE_SUCCEEDED
        | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    )
    try:
        prepare(dealer)
        dealer.connect(address)
        dealer.send(b"a word")
        found: list[bytes] = []
        loop.add_socket(events, lambda: found.extend(events.recv_multipart()[:1]))
        while not found:
            loop.run_once()
        loop.remove(events)
        for _ in range(3):  # what was let in is heard in the same round or the next
            loop.call_later(0.02, lambda: None)
            loop.run_once()
        return int.from_bytes(found[0][:2], "little")
    finally:
        dealer.disable_monitor()
        events.close(0)
        dealer.close(0)
        context.term()


Served = tuple[Loop, str, list[tuple[str, bytes]]]


@pytest.mark.parametrize("role", ["node", "client"])
def test_who_has_a_key_of_the_cluster_enters_in_its_role(served: Served, role: str) -> None:
    loop, address, heard = served
    event = speak(loop, address, lambda dealer: KEYS.enter(dealer, role, "scheduler"))
    assert event == zmq.EVENT_HANDSHAKE_SUCCEEDED
    assert heard == [(role, b"a word")]


def test_a_key_of_another_cluster_is_refused(served: Served) -> None:
    loop, address, heard = served
    mixed = Keys(KEYS.scheduler, OTHERS.node, OTHERS.client)
    event = speak(loop, address, lambda dealer: mixed.enter(dealer, "client", "scheduler"))
    assert event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
    assert heard == []


def test_nobody_enters_as_the_scheduler(served: Served) -> None:
    loop, address, heard = served
    event = speak(loop, address, lambda dealer: KEYS.enter(dealer, "scheduler", "scheduler"))
    assert event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
    assert heard == []


def test_who_expects_another_scheduler_says_nothing_to_this_one(served: Served) -> None:
    loop, address, heard = served
    mixed = replace(KEYS, scheduler=OTHERS.scheduler)
    event = speak(loop, address, lambda dealer: mixed.enter(dealer, "client", "scheduler"))
    assert event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    assert heard == []


def test_who_has_no_key_is_refused(served: Served) -> None:
    """It is told why unless the connection is cut before it has read that."""
    loop, address, heard = served
    event = speak(loop, address, lambda dealer: None)
    assert event in (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    assert heard == []

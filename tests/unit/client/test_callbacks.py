"""The thread that runs the callbacks of futures."""

from __future__ import annotations

import logging
import threading

import pytest

from zcluster.client.callbacks import Callbacks


def test_calls_are_made_in_order_in_one_other_thread() -> None:
    callbacks = Callbacks()
    made: list[tuple[int, int]] = []
    callbacks.start()
    callbacks.start()
    for number in range(5):
        callbacks.call(lambda n: made.append((n, threading.get_ident())), number)
    callbacks.stop()
    callbacks.join(5)
    assert [number for number, _ in made] == [0, 1, 2, 3, 4]
    assert len({ident for _, ident in made}) == 1
    assert made[0][1] != threading.get_ident()


def test_what_a_call_raises_is_logged_and_the_next_is_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    callbacks = Callbacks()
    callbacks.start()
    made: list[int] = []
    with caplog.at_level(logging.ERROR):
        callbacks.call(lambda _: 1 / 0, 1)
        callbacks.call(made.append, 2)
        callbacks.stop()
        callbacks.join(5)
    assert made == [2]
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_may_stop_its_own_thread() -> None:
    callbacks = Callbacks()
    callbacks.start()
    ended = threading.Event()

    def end(_: object) -> None:
        callbacks.stop()
        callbacks.join(5)
        ended.set()

    callbacks.call(end, None)
    assert ended.wait(5)


def test_without_a_thread_there_is_nothing_to_join() -> None:
    Callbacks().join(5)

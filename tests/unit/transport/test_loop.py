"""One loop: timers in order, other threads at the door, descriptors, signals, an end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from zcluster.transport.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def run_until(loop: Loop, condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Run rounds until a condition holds; a loop that has nothing to do would wait a minute."""
    deadline = time.monotonic() + seconds
    loop.call_later(seconds, lambda: None)
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        loop.run_once()


# --------------------------------------------------------------------------------- timers


def test_timers_run_in_the_order_of_their_times(loop: Loop) -> None:
    ran: list[str] = []
    began = loop.now()
    loop.call_later(0.03, lambda: ran.append("third"))
    loop.call_later(0.01, lambda: ran.append("first"))
    loop.call_later(0.02, lambda: ran.append("second"))
    run_until(loop, lambda: len(ran) == 3)
    assert ran == ["first", "second", "third"]
    assert loop.now() - began >= 0.03


def test_timers_of_one_time_run_in_the_order_they_were_set(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    now = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        for number in range(20):
            loop.call_later(0, lambda number=number: ran.append(number))  # type: ignore[misc]
    run_until(loop, lambda: len(ran) == 20)
    assert ran == list(range(20))


def test_a_cancelled_timer_never_runs_and_wakes_nobody(loop: Loop) -> None:
    ran: list[str] = []
    timer = loop.call_later(0.0, lambda: ran.append("cancelled"))
    timer.cancel()
    timer.cancel()
    loop.call_later(0.01, lambda: ran.append("kept"))
    rounds = 0

    def count() -> None:
        nonlocal rounds
        rounds += 1

    loop.on_idle.append(count)
    run_until(loop, lambda: bool(ran))
    assert ran == ["kept"]
    assert rounds == 1  # it waited for the timer that was left, in one go


def test_a_timer_can_be_cancelled_by_one_before_it(loop: Loop) -> None:
    ran: list[str] = []
    second = loop.call_later(0.0, lambda: ran.append("second"))
    loop.call_later(-1.0, second.cancel)
    loop.call_later(0.001, lambda: ran.append("last"))
    run_until(loop, lambda: bool(ran))
    assert ran == ["last"]


def test_a_timer_set_by_a_timer_waits_for_the_next_round(loop: Loop) -> None:
    """A timer that sets itself again at once must not keep sockets from being heard."""
    ran = 0

    def again() -> None:
        nonlocal ran
        ran += 1
        loop.call_later(0.0, again)

    loop.call_later(0.0, again)
    run_until(loop, lambda: ran > 0)
    assert ran == 1
    loop.run_once()
    assert ran <= 2


# -------------------------------------------------------------------------- other threads


def test_calls_posted_by_other_threads_run_here_and_in_order(loop: Loop) -> None:
    ran: list[tuple[str, int]] = []
    where: set[int] = set()

    def note(thread: str, number: int) -> None:
        ran.append((thread, number))
        where.add(threading.get_ident())

    def post_all(name: str) -> None:
        for number in range(500):
            loop.post(lambda number=number: note(name, number))  # type: ignore[misc]

    threads = [threading.Thread(target=post_all, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    run_until(loop, lambda: len(ran) == 1500)
    for thread in threads:
        thread.join()
    for name in "abc":
        assert [number for thread_name, number in ran if thread_name == name] == list(range(500))
    assert where == {threading.get_ident()}


def test_a_post_ends_a_wait_that_has_begun(loop: Loop) -> None:
    waiting = threading.Event()
    loop.on_idle.append(waiting.set)
    ran: list[float] = []

    def post_when_it_waits() -> None:
        assert waiting.wait(5)
        loop.post(lambda: ran.append(loop.now()))

    thread = threading.Thread(target=post_when_it_waits)
    thread.start()
    loop.wake()
    loop.run_once()  # sets the event; the next round waits for nothing but the post
    began = loop.now()
    loop.run_once()
    thread.join()
    assert len(ran) == 1
    assert loop.now() - began < 5


def test_a_posted_call_may_post_another_for_the_next_round(loop: Loop) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        loop.post(lambda: ran.append("second"))

    loop.post(first)
    loop.run_once()
    assert ran == ["first"]
    loop.run_once()
    assert ran == ["first", "second"]


def test_many_wakes_cost_one_round(loop: Loop) -> None:
    rounds = 0

    def count() -> None:
        nonlocal rounds
        rounds += 1

    loop.on_idle.append(count)
    for _ in range(10_000):
        loop.wake()
    loop.run_once()
    assert rounds == 1
    loop.call_later(0.02, lambda: None)
    began = loop.now()
    loop.run_once()
    assert loop.now() - began >= 0.019, "a wake was left over"


def test_no_wake_is_lost(loop: Loop) -> None:
    """Each state that another thread wrote before its wake is seen by an idle callback after."""
    written = 0
    seen = 0
    last = 2000
    turn = threading.Condition()

    def look() -> None:
        nonlocal seen
        with turn:
            seen = written
            turn.notify()

    def write() -> None:
        nonlocal written
        for number in range(1, last + 1):
            written = number
            loop.wake()
            if number % 7 == 0:
                with turn:
                    while seen < number:
                        assert turn.wait(5), f"the wake after {number} was lost"

    loop.on_idle.append(look)
    thread = threading.Thread(target=write)
    thread.start()
    run_until(loop, lambda: seen == last, 20)
    thread.join()


def test_stop_from_another_thread_ends_run_there(loop: Loop) -> None:
    """In a thread there are no signals to hear; run does without them."""
    thread = threading.Thread(target=loop.run)
    thread.start()
    loop.stop()
    thread.join(5)
    assert not thread.is_alive()


# ---------------------------------------------------------------- sockets and descriptors


def test_a_readable_descriptor_is_told_until_it_is_read(loop: Loop, pipe: tuple[int, int]) -> None:
    read, write = pipe
    told: list[bytes] = []
    loop.add_fd(read, lambda: told.append(os.read(read, 1)))
    os.write(write, b"ab")
    loop.run_once()
    loop.run_once()
    assert told == [b"a", b"b"]


def test_the_end_of_a_pipe_is_told(loop: Loop) -> None:
    read, write = os.pipe()
    told: list[bytes] = []
    loop.add_fd(read, lambda: told.append(os.read(read, 10)))
    os.close(write)
    loop.run_once()
    assert told == [b""]
    loop.remove(read)
    os.close(read)


def test_what_is_removed_is_not_told_even_in_the_same_round(
    loop: Loop, pipe: tuple[int, int]
) -> None:
    read, write = pipe
    other_read, other_write = os.pipe()
    told: list[str] = []

    def first() -> None:
        told.append("one of them")
        loop.remove(read)
        loop.remove(other_read)

    loop.add_fd(read, first)
    loop.add_fd(other_read, first)
    os.write(write, b"x")
    os.write(other_write, b"x")
    loop.run_once()
    assert told == ["one of them"]
    loop.remove(read)  # a second time, and one never added
    loop.remove(10_000)
    loop.call_later(0.001, lambda: None)
    loop.run_once()
    assert told == ["one of them"]
    os.close(other_read)
    os.close(other_write)


def test_a_socket_is_told_when_it_has_input(loop: Loop) -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as p:
        pull.bind("inproc://here")
        p.connect("inproc://here")
        heard: list[bytes] = []
        loop.add_socket(pull, lambda: heard.append(pull.recv(zmq.NOBLOCK)))
        p.send(b"a")
        p.send(b"b")
        run_until(loop, lambda: len(heard) == 2)
        assert heard == [b"a", b"b"]
        loop.remove(pull)
        p.send(b"c")
        loop.call_later(0.001, lambda: None)
        loop.run_once()
        assert heard == [b"a", b"b"]


def test_a_round_is_input_then_posts_then_timers_then_idle(
    loop: Loop, pipe: tuple[int, int]
) -> None:
    """The idle callback comes last: it sends what all of the round has decided."""
    read, write = pipe
    ran: list[str] = []
    loop.on_idle.append(lambda: ran.append("idle"))
    loop.call_later(0.0, lambda: ran.append("timer"))
    loop.post(lambda: ran.append("post"))
    loop.add_fd(read, lambda: ran.append(os.read(read, 9).decode()))
    os.write(write, b"input")
    loop.run_once()
    assert ran == ["input", "post", "timer", "idle"]


def test_the_lag_is_the_longest_round(loop: Loop) -> None:
    loop.post(lambda: time.sleep(0.02))  # stands for work
    loop.run_once()
    loop.wake()
    loop.run_once()
    assert 0.02 <= loop.lag < 1.0


# -------------------------------------------------------------------------------- the end


def test_a_signal_ends_the_wait_and_its_handler_may_stop_the_loop(loop: Loop) -> None:
    """Without a wake-up the handler would run once the wait is over, in up to a minute."""
    before = signal.signal(signal.SIGUSR1, lambda *_: loop.stop())
    waiting = threading.Event()
    loop.on_idle.append(waiting.set)
    loop.wake()

    def send() -> None:
        assert waiting.wait(5)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=send)
    try:
        thread.start()
        began = time.monotonic()
        loop.run()
        assert time.monotonic() - began < 5
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_run_puts_the_wake_up_of_signals_back(loop: Loop, pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    before = signal.set_wakeup_fd(pipe[1])
    try:
        loop.post(loop.stop)
        loop.run()
        assert signal.set_wakeup_fd(pipe[1]) == pipe[1]
    finally:
        signal.set_wakeup_fd(before)


def test_an_exception_of_a_callback_ends_run_and_the_loop_can_go_on(loop: Loop) -> None:
    ran: list[str] = []

    def fail() -> None:
        raise LookupError("a bug")

    loop.post(fail)
    loop.post(lambda: ran.append("after"))
    with pytest.raises(LookupError, match="a bug"):
        loop.run()
    loop.post(loop.stop)
    loop.run()
    assert ran == ["after"]


def test_a_stopped_loop_runs_again_after_resume(loop: Loop) -> None:
    rounds = 0

    def count() -> None:
        nonlocal rounds
        rounds += 1

    loop.on_idle.append(count)
    loop.stop()
    loop.run()
    assert rounds == 0
    loop.resume()
    loop.post(loop.stop)
    loop.run()
    assert rounds == 1


def test_a_closed_loop_has_no_descriptors_and_minds_no_late_calls() -> None:
    before = set(os.listdir("/dev/fd"))
    loop = Loop()
    assert set(os.listdir("/dev/fd")) > before
    loop.close()
    loop.close()
    assert set(os.listdir("/dev/fd")) == before
    loop.post(lambda: None)  # a thread that does not know yet
    loop.wake()
    loop.stop()

"""What chaos computes: random graphs whose answers are known beforehand.

Every task hashes its number and its inputs, so a wrong, stale or missing input shows in the
answer. zcluster and dask run the same lines.
"""

from __future__ import annotations

import hashlib
import importlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Errors that a system may answer with when workers are killed by chance: the task was in
#: several that were. Everything else is wrong.
PERMITTED = ("WorkerKilledError", "KilledWorker", "OutOfDisk")
#: And with these where something was cancelled.
CANCELLED = ("CancelledError", "FutureCancelledError")
#: No round may take longer: a worker may be frozen for twenty seconds, which nobody can tell
#: from a long call, its node may be cut off after that, and then all is computed again.
BOUND = 60.0


@dataclass(frozen=True)
class Step:
    """One task: its inputs are steps before it."""

    inputs: tuple[int, ...]
    seconds: float
    size: int


def mix(number: int, seconds: float, size: int, *inputs: bytes) -> bytes:
    """Sleep, and return bytes that depend on everything."""
    time.sleep(seconds)
    whole = hashlib.sha256(b"%d" % number)
    for each in inputs:
        whole.update(hashlib.sha256(each).digest())
    digest = whole.digest()
    return (digest * (size // len(digest) + 1))[:size]


def plan(chance: random.Random) -> list[Step]:
    """Draw a graph of 3 to 300 tasks."""
    count = round(3 * 100 ** chance.random())
    kind = chance.choice(["chain", "tree", "wide", "layers", "random"])
    large = chance.random() < 0.5
    steps = []
    for number in range(count):
        size = 32
        if large and chance.random() < 0.3:
            size = chance.choice([1 << 10, 40 << 10, 400 << 10])
        inputs = _inputs(kind, number, count, chance)
        steps.append(Step(inputs, chance.choice([0.0, 0.001, 0.01, 0.03]), size))
    return steps


def _inputs(kind: str, number: int, count: int, chance: random.Random) -> tuple[int, ...]:
    if number == 0:
        return ()
    if kind == "chain":
        return (number - 1,)
    if kind == "tree":  # the leaves come first
        leaves = count // 2 + 1
        first = 2 * (number - leaves)
        return (first, first + 1) if number >= leaves else ()
    if kind == "wide":
        return tuple(range(count - 1)) if number == count - 1 else ()
    if kind == "layers":
        width = max(2, int(count**0.5))
        layer = number // width
        return tuple(range((layer - 1) * width, layer * width)) if layer else ()
    return tuple(sorted(chance.sample(range(number), min(number, chance.randrange(4)))))


def answers(steps: Sequence[Step], first: int, data: bytes | None) -> list[bytes]:
    """Compute what a graph's tasks must return."""
    results: list[bytes] = []
    for number, step in enumerate(steps):
        inputs = [results[each] for each in step.inputs]
        if data is not None and not inputs:
            inputs = [data]
        results.append(mix(first + number, 0.0, step.size, *inputs))
    return results


@dataclass
class Tally:
    """What became of the rounds, of all threads together."""

    rounds: int = 0
    right: int = 0
    tasks: int = 0
    slowest: float = 0.0
    permitted: Counter[str] = field(default_factory=Counter)
    #: What must not be: wrong answers, other errors, rounds beyond their bound.
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


Explain = Callable[[Any, Sequence[Any]], str]


def run_rounds(
    client: Any, tally: Tally, seed: int, is_over: Callable[[], bool], explain: Explain
) -> None:
    """Run rounds on a client until it is time to stop."""
    chance = random.Random(seed)
    number = 0
    while not is_over():
        number += 1
        began = time.monotonic()
        steps = plan(chance)
        try:
            found = _round(client, chance, steps, explain)
        except Exception as error:  # of submit: nothing may fail there
            found = [f"{type(error).__name__} at submit: {error}"]
        with tally.lock:
            tally.rounds += 1
            tally.tasks += len(steps)
            tally.slowest = max(tally.slowest, time.monotonic() - began)
            tally.right += not found
            for sentence in found:
                kind = sentence.partition(":")[0]
                if kind in PERMITTED:
                    tally.permitted[kind] += 1
                else:
                    tally.wrong.append(f"seed {seed} round {number}: {sentence}")


def _round(client: Any, chance: random.Random, steps: list[Step], explain: Explain) -> list[str]:
    """Run one graph; return a sentence for everything that is not right."""
    first = chance.randrange(1 << 40)
    data = chance.randbytes(chance.choice([100, 200 << 10])) if chance.random() < 0.3 else None
    fate = chance.random()
    expected = answers(steps, first, data)
    used = {each for step in steps for each in step.inputs}
    wanted = [n for n in range(len(steps)) if n not in used or chance.random() < 0.1]
    if data is None and chance.random() < 0.5:
        futures = _compute(client, steps, first, wanted)
        kept = list(zip(wanted, futures, strict=True))
    else:
        futures = _submit(client, steps, first, data)
        kept = [(n, futures[n]) for n in wanted]
    if fate < 0.1:  # nobody wants them any more
        return []
    if fate < 0.2:  # some of them, and with them what depends on those
        time.sleep(chance.choice([0.0, 0.02, 0.2]))
        client.cancel(chance.sample(futures, len(futures) // 5 + 1), force=True)
    del futures
    found = _compare(client, kept, expected, explain)
    return [each for each in found if fate >= 0.2 or not each.startswith(CANCELLED)]


def _submit(client: Any, steps: list[Step], first: int, data: bytes | None) -> list[Any]:
    """Submit the tasks one by one; return a future for each."""
    put = None if data is None else client.scatter(data, hash=False)
    futures: list[Any] = []
    for number, step in enumerate(steps):
        inputs = [futures[each] for each in step.inputs]
        if put is not None and not inputs:
            inputs = [put]
        futures.append(
            client.submit(mix, first + number, step.seconds, step.size, *inputs, pure=False)
        )
    return futures


def _compute(client: Any, steps: list[Step], first: int, wanted: list[int]) -> list[Any]:
    """Submit all at once as a lazy graph, most of which nobody wants; return futures of some."""
    module = "zcluster" if type(client).__module__.startswith("zcluster") else "dask"
    lazy = importlib.import_module(module).delayed(mix, pure=False)
    made: list[Any] = []
    for number, step in enumerate(steps):
        inputs = [made[each] for each in step.inputs]
        made.append(lazy(first + number, step.seconds, step.size, *inputs))
    return list(client.compute([made[n] for n in wanted]))


def _compare(
    client: Any, kept: list[tuple[int, Any]], expected: list[bytes], explain: Explain
) -> list[str]:
    found: list[str] = []
    deadline = time.monotonic() + BOUND
    for at, (number, future) in enumerate(kept):
        try:
            result = future.result(max(0.1, deadline - time.monotonic()))
        except TimeoutError:
            late = [later for _, later in kept[at:] if not later.done()] or [future]
            return [*found, f"no result within {BOUND:g} s: {explain(client, late)}"]
        except Exception as error:  # whatever it is, it is looked at by its name
            found.append(f"{type(error).__name__}: task {number}: {error}")
            continue
        if result != expected[number]:
            found.append(f"WRONG ANSWER: task {number}: {result[:8]!r}… of {len(result)} bytes")
    return found

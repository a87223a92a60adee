"""What does a decoder do with a million inputs that are wrong? It refuses them, or takes them.

Right ones are made once, of every message and every stored form, from their types; then each input
is one of them with something wrong: a bit, a length, a piece too few or too many. Whoever reads it
must raise what it promises to raise (`ProtocolError`; of a scheduler file `InvalidArgument`), or
return what it promises to return, and must not take memory that the bytes are not worth.

    python benchmarks/fuzz.py --inputs 1000000 --seed 7
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from zcluster.errors import InvalidArgument, ProtocolError
from zcluster.graph.columns import read_part
from zcluster.graph.layers import Graph, GraphLayer
from zcluster.graph.lowering import slices
from zcluster.protocol import messages
from zcluster.protocol.blobs import (
    ArrayHeader,
    Parts,
    PartsHeader,
    array_view,
    part_view,
    pickled_views,
    read_header,
)
from zcluster.protocol.frames import Decoder, check_frames, encode, span
from zcluster.protocol.messages import Submit
from zcluster.protocol.objects import plan
from zcluster.protocol.selections import can_cut, cut, selection_from
from zcluster.protocol.session import read_head, unsequenced
from zcluster.testing.fakes import function
from zcluster.testing.samples import Sampler, mutated
from zcluster.transport.scheduler_file import SchedulerFile, read_scheduler_file

#: Bytes that a process may take beyond what it has once its corpus is made.
MOST_MEMORY = 64 << 20
PROCESSES = 2
GROUPS = (
    "CLIENT_TO_SCHEDULER",
    "SCHEDULER_TO_CLIENT",
    "SCHEDULER_TO_NODE",
    "NODE_TO_SCHEDULER",
    "NODE_TO_WORKER",
    "WORKER_TO_NODE",
    "DATA_PORT",
)
#: Samples of each message.
SAMPLES = 8


class Target(NamedTuple):
    """Something that reads: with what share of the inputs, of which right bytes, and how.

    `read` returns whether it took the bytes; what it raises for wrong ones is in `refusals`.
    """

    name: str
    share: float
    corpus: list[bytes]
    read: Callable[[bytes], bool]
    refusals: type[Exception] = ProtocolError


class Wrong(AssertionError):
    """A reader took what it should not, or gave what it should not."""


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(what)


# ------------------------------------------------------------------------------ targets


def control_frames(group: str, chance: random.Random) -> Target:
    """The messages of one direction: heads, types, fields."""
    accepts = getattr(messages, group)
    decoder, sampler = Decoder(accepts), Sampler(chance)
    corpus = [
        bytes(unsequenced(encode(sampler.sample(kind)), acknowledged=chance.randrange(9))[0])
        for kind in accepts
        for _ in range(SAMPLES)
    ]

    def read(data: bytes) -> bool:
        sequence, acknowledged, control = read_head(data)
        check(sequence >= 0 and acknowledged >= 0, "numbers below zero")
        message = decoder.decode(control)
        check(type(message) in accepts, f"a {type(message)} is nothing to say here")
        # What was taken is a whole message: it goes on its way again and is the same.
        again = encode(message)
        check(encode(decoder.decode(again)) == again, f"{message} changes on its way")
        return True

    return Target(group, 0.1, corpus, read)


def submissions(chance: random.Random) -> Target:
    """Slices of graphs: spans, and the arrays of the parts."""
    corpus = [
        b"".join(pack(bytes(frame)) for frame in (encode(message), *frames))
        for graph in (small_graph(chance) for _ in range(20))
        for message, frames in slices(graph, 1 << 40, [], 1 << 20)
    ]
    decoder = Decoder((Submit,))

    def read(data: bytes) -> bool:
        control, *frames = unpack(data)
        message = decoder.decode(control)
        check_frames(frames)
        for _, place in message.functions:
            check(len(span(frames, place)) >= 0, "a span below zero")
        for part in message.parts:
            layer = message.layers[part.layer] if 0 <= part.layer < len(message.layers) else None
            end = message.first + message.count
            columns = read_part(part, frames, end=end, imports=len(message.imports), layer=layer)
            check(columns.count == part.count > 0, "a part of other tasks")
            inputs = columns.indptr[-1] if columns.indptr else columns.arity * columns.count
            check(len(columns.indices) == inputs, "inputs of nobody")
            check(columns.orders is None or len(columns.orders) == part.count, "ranks of nobody")
        return True

    return Target("submissions", 0.15, corpus, read)


def pack(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "little") + frame


def unpack(data: bytes) -> list[bytes]:
    """Cut what `pack` joined; lengths that went wrong make other frames, never an error here."""
    frames, at = [], 0
    while at < len(data) or not frames:
        length = int.from_bytes(data[at : at + 4], "little")
        frames.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return frames


def small_graph(chance: random.Random) -> Graph:
    graph = Graph()
    first = 0
    for number in range(chance.randrange(1, 4)):
        count, arity = chance.randrange(1, 5), chance.randrange(3) if first else 0
        lengths = [arity] * count
        starts = [sum(lengths[:k]) for k in range(count + 1)]
        inputs = [chance.randrange(first) for _ in range(starts[-1])]
        with_constants = chance.random() < 0.5
        layer = GraphLayer(
            f"layer-{number}",
            (count,),
            count,
            int(with_constants),
            function(f"s{number}"),
            -1 if chance.random() < 0.5 else arity,
            None,
            inputs,
            constants=b"xyz" * count if with_constants else b"",
            offsets=[3 * k for k in range(count + 1)] if with_constants else None,
        )
        if layer.arity < 0:
            layer.indptr = starts
        graph.add_layer(layer)
        first += count
    graph.outputs = [(0, 1)]
    return graph


def blobs(chance: random.Random) -> Target:
    """Stored forms: their headers, and what is cut out of them by bytes."""
    values: list[Any] = [
        1,
        b"x" * 300,
        [numpy.arange(50.0), bytearray(200)],
        numpy.arange(24).reshape(4, 6),
        numpy.zeros((3, 4), order="F"),
        numpy.zeros(3, [("a", "i4"), ("b", "f8", (2,))]),
        numpy.array(["2020-01-01"], "M8[D]"),
        numpy.zeros(()),
        Parts([numpy.arange(9), "two", b"three" * 40]),
        Parts([]),
    ]
    corpus = [plan(value).tobytes() for value in values]
    choices = [(1, [0]), (1, [2]), (3, [0, 2, 1]), (3, [1, 9, 2, 0, 3, 1]), (1, [-1]), (3, [1])]

    def read(data: bytes) -> bool:
        view = memoryview(data)
        header, at = read_header(view)
        if isinstance(header, ArrayHeader):
            array = array_view(view, header, at)
            check(array.shape == header.shape, "an array of another shape")
            check(not array.dtype.hasobject, "an array of addresses")
        elif isinstance(header, PartsHeader):
            for number in range(min(header.count, 5)):
                check(len(part_view(view, header, at, number)) <= len(data), "a part of more")
        elif header is not None:
            _, buffers = pickled_views(view, header, at)
            check(sum(map(len, buffers)) <= len(data), "buffers of more than there is")
        selection = selection_from(*choices[len(data) % len(choices)])
        if can_cut(view, selection):
            size = cut(view, selection).size
            check(size <= 2 * len(data) + 4096, f"{size} bytes cut of {len(data)}")
        return True

    return Target("blobs", 0.1, corpus, read)


def scheduler_files(folder: Path) -> Target:
    """The file in which a scheduler says where it is."""
    record = SchedulerFile("ipc:///tmp/zc-1/s", "af" * 16, False, 17, "host", 1.5, "0.1", "3.11")
    path = folder / "scheduler.json"
    path.touch(mode=0o600)

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        found = read_scheduler_file(path)
        types = {name: type(value) for name, value in asdict(record).items()}
        for name, value in asdict(found).items():
            check(type(value) is types[name] or type(value) is int, f"{name} is {value!r}")
        return True

    deep = b"[" * 100_000
    corpus = [json.dumps(asdict(record), indent=2).encode(), b'{"address": "tcp://h:1"}', deep]
    return Target("scheduler files", 0.02, corpus, read, InvalidArgument)


# -------------------------------------------------------------------------------- a run


def fuzz(inputs: int, seed: int, folder: str) -> dict[str, Any]:
    """Read so many inputs; return what came of them."""
    chance = random.Random(seed)
    targets = [control_frames(group, chance) for group in GROUPS]
    targets += [submissions(chance), blobs(chance), scheduler_files(Path(folder))]
    for target in targets:  # what is right is taken; and what is imported late is here
        for data in target.corpus:
            attempt(target, data)
    begun, before = time.perf_counter(), peak()
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    shares = [target.share for target in targets]
    for target in chance.choices(targets, shares, k=inputs):
        data = mutated(chance.choice(target.corpus), target.corpus, chance)
        word = attempt(target, data)
        seen[word.partition(" ")[0]] += 1
        if word not in ("taken", target.refusals.__name__) and len(wrong) < 20:
            wrong.append(f"{target.name}: {word} of {data[:400].hex()}")
    spent = time.perf_counter() - begun
    return {"seen": seen, "wrong": wrong, "seconds": spent, "memory": peak() - before}


def attempt(target: Target, data: bytes) -> str:
    """Have it read bytes; return what it raised, in a word."""
    try:
        target.read(data)
    except target.refusals:
        return target.refusals.__name__
    except Exception as error:
        return f"{type(error).__name__} ({str(error)[:200]})"
    return "taken"


def peak() -> int:
    """Return the most memory this process ever had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def work(inputs: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="zc-fuzz-") as folder:
        return fuzz(inputs, seed, folder)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--quick", action="store_true", help="20,000 inputs: does it work at all?")
    options = parser.parse_args(arguments)
    inputs = 20_000 if options.quick else options.inputs
    print(f"seed {options.seed} (--seed={options.seed} repeats it)", flush=True)
    begun = time.perf_counter()
    shares = [(inputs // PROCESSES, options.seed + k) for k in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        found = pool.starmap(work, shares)
    spent = time.perf_counter() - begun
    seen: Counter[str] = Counter()
    for one in found:
        seen.update(one["seen"])
    memory = max(one["memory"] for one in found)
    slowest = max(one["seconds"] for one in found)
    print(f"{seen.total()} inputs in {spent:.1f} s, {seen.total() / slowest:,.0f} a second")
    for word, count in seen.most_common(12):
        print(f"{count:10d}  {word}")
    print(f"extra memory {memory / 2**20:.1f} MiB, at most {MOST_MEMORY >> 20} MiB")
    wrong = [text for one in found for text in one["wrong"]]
    print("\n".join(wrong))
    return 1 if wrong or memory > MOST_MEMORY else 0


if __name__ == "__main__":
    sys.exit(main())

"""What is made at random is of its type, comes again with its seed, and reaches every field."""

from __future__ import annotations

import random

import pytest

from zcluster.protocol import messages
from zcluster.protocol.frames import Decoder, encode
from zcluster.protocol.messages import Assign, Hello, Message, NodeInfo, Submit
from zcluster.testing.samples import Sampler, mutated

KINDS = sorted({kind for group in (
    messages.CLIENT_TO_SCHEDULER,
    messages.SCHEDULER_TO_CLIENT,
    messages.SCHEDULER_TO_NODE,
    messages.NODE_TO_SCHEDULER,
    messages.NODE_TO_WORKER,
    messages.WORKER_TO_NODE,
    messages.DATA_PORT,
) for kind in group}, key=str)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_every_message_is_decoded(kind: type[Message]) -> None:
    sampler = Sampler(random.Random(1))
    for _ in range(20):
        said = sampler.sample(kind)
        heard = Decoder((kind,)).decode(encode(said))
        assert type(heard) is kind
        assert encode(heard) == encode(said)


def test_a_seed_gives_the_same_samples() -> None:
    first, second = (Sampler(random.Random(7)).sample(Assign) for _ in range(2))
    assert first == second


def test_a_variation_differs_in_one_field_or_in_one_of_a_record() -> None:
    said = Hello("node", (1, 0), "0", "3", b"", node=NodeInfo(0, "n", "h", 1, "d", "", 0, []))
    sampler = Sampler(random.Random(2))
    changed = set()
    for _ in range(300):
        other = sampler.varied(said)
        different = [n for n in Hello.__struct_fields__ if getattr(other, n) != getattr(said, n)]
        assert len(different) <= 1
        changed.update(different)
    assert changed == set(Hello.__struct_fields__)


def test_records_in_a_message_are_varied() -> None:
    sampler = Sampler(random.Random(3))
    layer = messages.Layer("x", [1], 0, 1, 0, b"")
    said = Submit(1, 0, 1, [layer], [], [], [], [], True)
    found = [other for _ in range(300) if len((other := sampler.varied(said)).layers) == 1]  # type: ignore[attr-defined]
    names = {n for other in found for n in layer.__struct_fields__
             if getattr(other.layers[0], n) != getattr(layer, n)}  # type: ignore[attr-defined]  # fmt: skip
    assert len(names) > 10


def test_what_is_mutated_is_mostly_wrong_and_comes_again_with_its_seed() -> None:
    data, others = bytes(range(60)), [b"other bytes"]
    chance = random.Random(4)
    wrong = [mutated(data, others, chance) for _ in range(500)]
    assert sum(one != data for one in wrong) > 400
    assert {len(one) < 60 for one in wrong} == {True, False}
    chance = random.Random(4)
    assert wrong == [mutated(data, others, chance) for _ in range(500)]
    assert mutated(b"", [], random.Random(1)) is not None

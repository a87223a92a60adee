"""What nanny and template say to each other."""

from __future__ import annotations

import pytest

from zcluster.servers.forking import (
    Ended,
    Fork,
    Forked,
    NotForked,
    Request,
    SendSignal,
    TemplateEvent,
    WorkerSettings,
    event_decoder,
    record_encoder,
    request_decoder,
)

SETTINGS = WorkerSettings(3, 9, "w", "n", 2, "ipc:///tmp/x", "/tmp/door", "tcp://s:1")


@pytest.mark.parametrize("request_", [Fork(SETTINGS), SendSignal(12, 9)])
def test_requests_survive_the_wire(request_: Request) -> None:
    assert request_decoder.decode(record_encoder.encode(request_)) == request_


@pytest.mark.parametrize("event", [Forked(1, 2, 3), NotForked(1, 2, "no"), Ended(1, 2, 3, -9, 5)])
def test_events_survive_the_wire(event: TemplateEvent) -> None:
    assert event_decoder.decode(record_encoder.encode(event)) == event


def test_each_start_of_each_worker_has_an_identity_of_16_bytes() -> None:
    identities = {
        WorkerSettings(number, start, "w", "n", 1, "a").identity
        for number in range(3)
        for start in range(3)
    }
    assert len(identities) == 9
    assert {len(identity) for identity in identities} == {16}
    assert not any(identity.startswith(b"\0") for identity in identities)  # ZeroMQ's own begin so

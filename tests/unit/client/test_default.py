"""Which client is the default one."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from zcluster.client.client import Client, get_client
from zcluster.client.default import as_current, default_client, follow_default, live_clients
from zcluster.errors import ClientClosed
from zcluster.types import RunningTask, running_task


def test_without_a_client_the_error_says_what_to_do() -> None:
    with pytest.raises(ClientClosed, match=r"make one with Client"):
        default_client()
    with pytest.raises(ClientClosed, match=r"make one with Client"):
        get_client()


def test_the_newest_live_client_is_the_default(cluster: Any) -> None:
    first = Client(cluster.address)
    second = Client(cluster.address)
    aside = Client(cluster.address, set_as_default=False)
    assert default_client() is get_client() is second
    assert live_clients() == [first, second, aside]
    second.close()
    assert default_client() is first
    first.close()
    aside.close()
    assert live_clients() == []


def test_a_client_that_nobody_holds_ends_by_itself(cluster: Any) -> None:
    client = Client(cluster.address)
    engine = client._engine
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    assert engine.core.ended is not None
    assert live_clients() == []


def test_followers_are_told_of_default_clients_now_and_later(cluster: Any) -> None:
    pushed: list[Any] = []
    popped: list[Any] = []
    first = Client(cluster.address)
    aside = Client(cluster.address, set_as_default=False)
    follow_default(lambda c: pushed.append(id(c)), lambda c: popped.append(id(c)))
    second = Client(cluster.address)
    assert pushed == [id(first), id(second)]
    for client in (second, aside, first):
        client.close()
    assert popped == [id(second), id(first)]


def test_inside_a_task_the_client_is_one_of_the_tasks_cluster(
    make_cluster: Callable[..., Any],
) -> None:
    mine, other = make_cluster(), make_cluster()
    with Client(mine.address), Client(other.address) as newest:
        token = running_task.set(RunningTask(5, "w", mine.address))
        try:
            inside = get_client()
        finally:
            running_task.reset(token)
        assert inside._engine.address == mine.address
        assert get_client() is newest
        assert get_client(mine.address) is inside


def test_within_a_block_another_client_is_the_default(cluster: Any) -> None:
    told: list[Any] = []
    with (
        Client(cluster.address) as first,
        Client(cluster.address) as second,
        Client(cluster.address, set_as_default=False) as aside,
    ):
        follow_default(told.append, lambda client: None)
        for client in (aside, first):
            with client.as_current() as inside:
                assert inside is client
                assert default_client() is get_client() is told[-1] is client
                with as_current(second):
                    assert default_client() is told[-1] is second
                    with ThreadPoolExecutor(1) as executor:
                        assert executor.submit(default_client).result(5) is second
                assert default_client() is told[-1] is client
            assert default_client() is told[-1] is second


def test_a_client_may_be_closed_in_its_block(cluster: Any) -> None:
    told: dict[int, Any] = {}
    with Client(cluster.address) as first:
        follow_default(
            lambda client: told.update({id(client): client}),
            lambda client: told.pop(id(client), None),
        )
        second = Client(cluster.address)
        with second.as_current(), first.as_current():
            second.close()
        assert default_client() is first
        assert list(told.values()) == [first]

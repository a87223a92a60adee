"""What stands for an actor in a client: its calls, its hold, its copies."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from zcluster.client.actors import Actor, ActorFuture, restore
from zcluster.client.client import Client
from zcluster.errors import ActorLost, ClientClosed
from zcluster.protocol.messages import Call, Called, ErrorInfo, Failed, Release, Submit, Want
from zcluster.protocol.objects import plan
from zcluster.protocol.tokens import tokenize

LOST = ErrorInfo("actor", "zcluster.errors.ActorLost", "it is gone", "", 1, 0, "", "")


@pytest.fixture
def actor(client: Client, cluster: Any) -> Actor:
    """Return an actor of another client's, as it comes out of a pickle."""
    return restore(5 << 40 | 3, "Counter", ("increment",), cluster.address)


def heard(cluster: Any, kind: Any, count: int = 1) -> list[Any]:
    cluster.until(lambda: len(cluster.told(kind)) >= count)
    return list(cluster.told(kind))


def blob(value: object) -> bytes:
    return plan(value).tobytes()


def test_it_is_held_until_it_is_dropped(client: Client, cluster: Any) -> None:
    actor = restore(5 << 40 | 3, "Counter", ("increment",), cluster.address)
    assert heard(cluster, Want)[0].tasks == [5 << 40 | 3]
    again = pickle.loads(pickle.dumps(actor))
    assert again == actor
    assert hash(again) == hash(actor)
    del actor
    gc.collect()
    client.scheduler_info()
    assert cluster.told(Release) == []
    del again
    gc.collect()
    assert heard(cluster, Release)[0].tasks == [5 << 40 | 3]


def test_calls_go_out_in_order(actor: Any, cluster: Any) -> None:
    calls = [actor.increment(number) for number in range(5)]
    sent = heard(cluster, Call, 5)
    assert [call.actor for call in sent] == [5 << 40 | 3] * 5
    for number, call in reversed(list(enumerate(sent))):
        cluster.say(Called(call.request), blob(number))
    assert [call.result(10) for call in calls] == list(range(5))


def test_what_is_no_method_is_asked_for(actor: Any) -> None:
    with pytest.raises(AttributeError, match="__len__"):
        actor.__len__()
    assert "increment" in dir(actor)
    assert repr(actor) == "<Actor: Counter, key=Counter-50000000003>"


def test_an_answer_opens_for_all_who_wait(actor: Any, cluster: Any) -> None:
    call: ActorFuture = actor.increment()
    assert not call.done()
    assert "pending" in repr(call)
    with pytest.raises(TimeoutError, match=r"Counter\.increment was not done after 0\.01 s"):
        call.result(0.01)
    with pytest.raises(TimeoutError):
        call.exception(0.01)
    seen: list[int] = []
    call.add_done_callback(lambda future: seen.append(future.result()))

    async def both() -> list[int]:
        waits = [asyncio.ensure_future(_wait(call)) for _ in range(2)]
        await asyncio.sleep(0)
        cluster.say(Called(heard(cluster, Call)[0].request), blob(7))
        return await asyncio.gather(*waits)

    assert asyncio.run(both()) == [7, 7]
    cluster.until(lambda: seen == [7])
    call.add_done_callback(lambda future: seen.append(future.result() + 1))
    cluster.until(lambda: seen == [7, 8])
    assert call.exception() is None


async def _wait(call: ActorFuture) -> int:
    found: int = await call
    return found


def test_calls_of_a_lost_actor_raise_at_once(actor: Any, cluster: Any) -> None:
    open_call = actor.increment()
    cluster.say(Called(heard(cluster, Call)[0].request, LOST))
    with pytest.raises(ActorLost, match="it is gone"):
        open_call.result(10)
    cluster.say(Failed([5 << 40 | 3], [0], [0], [LOST]))
    cluster.until(lambda: actor._hold.status == "error")
    late = actor.increment()
    assert late.done()
    with pytest.raises(ActorLost, match="it is gone"):
        late.result()
    assert len(cluster.told(Call)) == 1


def test_the_end_of_the_client_ends_calls(cluster: Any) -> None:
    with Client(cluster.address):
        actor: Any = restore(5 << 40 | 3, "Counter", ("increment",), cluster.address)
        call = actor.increment()
    with pytest.raises(ClientClosed):
        call.result(10)


def test_among_the_arguments_of_a_task_it_is_an_input(
    actor: Any, client: Client, cluster: Any
) -> None:
    """So the actor lives as long as the task may need it."""
    cluster.is_holding = True
    client.submit(repr, [actor])
    (submit,) = heard(cluster, Submit)
    assert submit.imports == [5 << 40 | 3]


def test_a_call_with_an_actor_has_a_key_of_its_own(actor: Any) -> None:
    assert tokenize(actor) != tokenize(actor)


def test_the_client_that_has_it_is_asked(make_cluster: Callable[..., Any]) -> None:
    """Not the newest one, which is of another cluster; addresses may be spelled in many ways."""
    one, two = make_cluster(), make_cluster()
    with Client(one.address) as first, Client(two.address):
        with first._engine.lock:
            record = first._engine.core.want(9 << 40, "Counter-x")
        actor = restore(9 << 40, "Counter", ("increment",), "tcp://elsewhere:1")
        assert actor._hold is not None
        assert actor._hold.client is first
        assert actor.key == "Counter-x"
        assert record.holds == 2


def test_one_that_was_just_made_has_no_hold_and_can_be_sent(client: Client, cluster: Any) -> None:
    """In its worker; a client there is made only by who needs one."""
    made = Actor(5 << 40 | 3, "Counter", ("increment",), cluster.address)
    assert made._hold is None
    assert cluster.told(Want) == []
    assert pickle.loads(pickle.dumps(made)) == made
    assert made.key == "Counter-50000000003"

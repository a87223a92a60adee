"""From arguments of submit and map to what the core takes."""

from __future__ import annotations

import functools
import operator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from zcluster.client.client import Client
from zcluster.client.packing import (
    check_callable,
    key_text,
    make_options,
    nodes_of,
    pack_function,
    pure_key,
    records_of,
    worker_names,
)
from zcluster.errors import InvalidArgument, NotSerializable, UnknownWorker
from zcluster.graph.layers import DEFAULT_OPTIONS, Options
from zcluster.protocol.calls import pack_call
from zcluster.protocol.messages import NodeInfo, WorkerInfo
from zcluster.protocol.objects import load
from zcluster.protocol.tokens import tokenize

NODES = {
    4: NodeInfo(4, "n4", "alpha", 1, "", "", 0, [WorkerInfo(0, "w0", 1, 0, 2)]),
    5: NodeInfo(5, "n5", "alpha", 1, "", "", 0, [WorkerInfo(0, "w1", 1, 0, 3)]),
}


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a callable"):
        check_callable(3)
    check_callable(len)
    with pytest.raises(InvalidArgument, match=r"found int 3 as the function"):
        check_callable(3)


def test_a_function_gets_its_name() -> None:
    name, packed = pack_function(operator.add)
    assert name == "add"
    assert load(packed.data) is operator.add
    assert pack_function(functools.partial(operator.add, 1))[0] == "add"
    assert pack_function(lambda: 0)[0] == "lambda"


def test_a_function_too_large_for_a_message_is_refused() -> None:
    with pytest.raises(NotSerializable, match="give the data as an argument"):
        pack_function(functools.partial(len, bytes(65 << 20)))


@pytest.mark.parametrize("key", ["a", 1, 1.5, ("a", 1), b"a"])
def test_keys_become_text(key: Any) -> None:
    assert key_text(key) == str(key)


@pytest.mark.parametrize("key", ["", (), [1], None, object()])
def test_what_cannot_be_a_key_is_refused(key: Any) -> None:
    with pytest.raises(InvalidArgument, match="key"):
        key_text(key)


@pytest.mark.parametrize("key", ["k" * 1001, ("k" * 999, 1)])
def test_a_key_too_long_for_a_message_is_refused(key: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected at most 1000"):
        key_text(key)


def key_of(*args: Any, **kwargs: Any) -> str:
    return pure_key("f", tokenize(len), pack_call(args, kwargs), args, kwargs)


def test_equal_calls_have_equal_keys() -> None:
    assert key_of(1) == key_of(1)
    assert key_of(1, a=[2]) == key_of(1, a=[2])
    keys = [key_of(1), key_of(2), key_of(1.0), key_of(True), key_of(1, 2), key_of(a=1), key_of("1")]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("f-") for key in keys)


def test_usual_options_are_one_object() -> None:
    assert make_options(NODES, {}) is DEFAULT_OPTIONS
    assert make_options(
        NODES, {"workers": "w1", "allow_other_workers": True, "retries": 2, "priority": -3}
    ) == Options(("w1",), True, 2, -3)


@pytest.mark.parametrize(
    ("retries", "priority"), [(-1, 0), ("2", 0), (1 << 40, 0), (0, 1.5), (0, 1 << 40)]
)
def test_numbers_that_cannot_be_meant_are_refused(retries: Any, priority: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"retries is|priority is"):
        make_options(NODES, {"retries": retries, "priority": priority})


def test_a_worker_nobody_has_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UnknownWorker, match=r"called 'w7'; the workers are w0, w1"):
        make_options(NODES, {"workers": ["w0", "w7"]})
    with pytest.raises(UnknownWorker, match="none yet"):
        make_options({}, {"workers": "w0"})


def test_workers_that_are_only_a_wish_need_not_exist() -> None:
    wish = {"workers": ["w0", "w7"], "allow_other_workers": True}
    assert make_options(NODES, wish).workers == ("w0",)
    assert make_options(NODES, wish | {"workers": "w7"}).workers == ()


def test_workers_are_named_alone_or_in_a_list() -> None:
    assert worker_names(None) == ()
    assert worker_names("a") == ("a",)
    assert worker_names(3) == ("3",)
    assert worker_names({"a"}) == ("a",)
    with pytest.raises(InvalidArgument, match="workers is a float"):
        worker_names(1.5)


def test_a_name_is_a_workers_a_nodes_or_a_hosts() -> None:
    assert nodes_of(NODES, "w0") == (4,)
    assert nodes_of(NODES, "n5") == (5,)
    assert nodes_of(NODES, "alpha") == (4, 5)
    assert nodes_of(NODES, "x") == ()


def test_inputs_are_futures_of_the_client(client: Client, cluster: Any) -> None:
    future = client.submit(operator.neg, 1)
    assert records_of([future, future], client) == [future._record] * 2
    with pytest.raises(InvalidArgument, match="belongs to another client"):
        records_of([future], object())
    with pytest.raises(InvalidArgument, match="found a object among the arguments"):
        records_of([object()], client)
    cluster.is_holding = True
    cancelled = client.submit(operator.neg, 2)
    cancelled.cancel()
    with pytest.raises(CancelledError, match="an argument of this call, was cancelled"):
        records_of([cancelled], client)
    with pytest.raises(InvalidArgument, match="combine them in steps"):
        records_of([future] * 400_001, client)

"""Keys travel as texts, secrets are not shown, and wrong ones are named and not repeated."""

from __future__ import annotations

from typing import Any

import pytest
import zmq

from zcluster.errors import InvalidArgument, StartError
from zcluster.transport.keys import Keys, keys_of, make_keys, remember


def test_keys_travel_as_texts_without_the_scheduler_s_secret() -> None:
    keys = make_keys()
    texts = keys.to_texts()
    assert keys.scheduler.secret not in texts.values()
    again = Keys.from_texts(texts, "a file")
    assert (again.node, again.client) == (keys.node, keys.client)
    assert (again.scheduler.public, again.scheduler.secret) == (keys.scheduler.public, "")
    assert again.source == "a file"


def test_no_two_clusters_have_a_key_in_common() -> None:
    one, two = make_keys(), make_keys()
    assert not set(one.to_texts().values()) & set(two.to_texts().values())


def test_secrets_are_not_shown() -> None:
    keys = make_keys()
    for role in ("scheduler", "node", "client"):
        assert keys.pair(role).secret not in repr(keys)
        assert keys.pair(role).public in repr(keys)


@pytest.mark.parametrize("name", ["scheduler", "node", "node-secret", "client", "client-secret"])
@pytest.mark.parametrize("wrong", [None, 3, "", "short", "x" * 41, "~" * 40])
def test_what_is_not_a_key_is_named_and_not_repeated(name: str, wrong: Any) -> None:
    texts = {**make_keys().to_texts(), name: wrong}
    if wrong is None:
        del texts[name]
    with pytest.raises(InvalidArgument, match=f"^file: the key '{name}' is missing or not") as info:
        Keys.from_texts(texts, "file")
    assert not any(str(text) in str(info.value) for text in texts.values() if len(str(text)) == 40)


def test_a_library_without_encryption_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "has", lambda capability: False)
    with pytest.raises(StartError, match=r"built without encryption .* pyzmq from a wheel"):
        make_keys()


def test_a_process_knows_the_keys_it_was_told() -> None:
    keys = make_keys()
    assert keys_of("tcp://nobody:1") is None
    remember("tcp://somebody:1", keys)
    assert keys_of("tcp://somebody:1") is keys

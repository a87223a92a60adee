"""The contract's own rules: one tag a message, every message in a group, nothing to change."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from zcluster.protocol import messages, records
from zcluster.protocol.messages import Ask, Free, Heartbeat, Message, Welcome

GROUPS: dict[str, tuple[type[Message], ...]] = {
    name: value
    for name, value in vars(messages).items()
    if isinstance(value, tuple) and value and value[0] is not messages.PROTOCOL[0]
}
DEFINED: dict[str, type[Message]] = {
    name: value
    for module in (messages, records)
    for name, value in vars(module).items()
    if isinstance(value, type) and issubclass(value, Message) and value is not Message
}
SAID = {name: kind for name, kind in DEFINED.items() if kind.__struct_config__.tag is not None}


def test_there_is_a_group_for_each_direction() -> None:
    assert set(GROUPS) == {
        "CLIENT_TO_SCHEDULER",
        "SCHEDULER_TO_CLIENT",
        "SCHEDULER_TO_NODE",
        "NODE_TO_SCHEDULER",
        "NODE_TO_WORKER",
        "WORKER_TO_NODE",
        "DATA_PORT",
    }


def test_every_message_is_said_by_somebody_and_in_a_group_once() -> None:
    """A message in no group can be sent by nobody: every decoder refuses it."""
    assert {kind for group in GROUPS.values() for kind in group} == set(SAID.values())
    for group in GROUPS.values():
        assert len(set(group)) == len(group)


def test_a_tag_means_one_message() -> None:
    tags = [kind.__struct_config__.tag for kind in SAID.values()]
    assert len(set(tags)) == len(tags)
    assert all(isinstance(tag, str) and tag == tag.lower() for tag in tags)


def test_the_module_exports_all_messages_and_records() -> None:
    assert set(DEFINED) | {"Message", "Span", "PROTOCOL", *GROUPS} == set(messages.__all__)
    assert messages.__all__ == sorted(messages.__all__, key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("kind", DEFINED.values(), ids=lambda kind: kind.__name__)
def test_every_message_is_frozen_compact_strict_and_explained(kind: type[Message]) -> None:
    config = kind.__struct_config__
    assert config.frozen
    assert config.array_like
    assert config.forbid_unknown_fields
    assert inspect.getdoc(kind) not in (None, inspect.getdoc(Message))


@pytest.mark.parametrize("kind", DEFINED.values(), ids=lambda kind: kind.__name__)
def test_fields_with_defaults_come_last(kind: type[Message]) -> None:
    """Only so can a later minor version add a field that an earlier one leaves out."""
    optional = [not field.required for field in msgspec.structs.fields(kind)]
    assert optional == sorted(optional)


def test_a_message_cannot_be_changed() -> None:
    message = Free([1])
    with pytest.raises(AttributeError, match="immutable"):
        message.tasks = [2]  # type: ignore[misc]


def test_messages_do_not_share_their_defaults() -> None:
    Free([1]).layers.append(7)
    Ask(1, "info").tasks.append(7)
    Heartbeat(0.0).memory.append(7)
    assert Free([1]).layers == Ask(1, "info").tasks == Heartbeat(0.0).memory == []
    welcome = Welcome(0, b"", True, 0, "", "", {})
    assert welcome.nodes == []
    assert welcome.nodes is not Welcome(0, b"", True, 0, "", "", {}).nodes


def test_the_two_ends_of_a_session_share_what_keeps_it_alive() -> None:
    both = {messages.Heartbeat, messages.Acknowledge, messages.Goodbye}
    for name in ("CLIENT_TO_SCHEDULER", "NODE_TO_SCHEDULER"):
        assert both | {messages.Hello} <= set(GROUPS[name])
    for name in ("SCHEDULER_TO_CLIENT", "SCHEDULER_TO_NODE"):
        assert both | {messages.Welcome, messages.Refused} <= set(GROUPS[name])

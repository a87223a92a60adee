"""Configuration as text, and text within configuration."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Any

from zcluster.errors import InvalidArgument

__all__ = ["deserialize", "expand_environment_variables", "serialize"]


def serialize(data: Any) -> str:
    """Return configuration as text without blanks, for a variable or a command line.

    Raises
    ------
    InvalidArgument
        If something in it is neither text, number, truth value, None, list nor dictionary.

    Examples
    --------
    >>> serialize({"worker": {"threads": 2}})
    'eyJ3b3JrZXIiOiB7InRocmVhZHMiOiAyfX0='
    """
    try:
        text = json.dumps(data)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"cannot serialize this configuration: {error}; expected text, numbers, lists and "
            "dictionaries"
        ) from None
    return base64.urlsafe_b64encode(text.encode()).decode()


def deserialize(data: str | bytes) -> Any:
    """Return configuration of what `serialize` returned.

    Raises
    ------
    InvalidArgument
        If it is something else.

    Examples
    --------
    >>> deserialize(serialize({"worker": {"threads": 2}}))
    {'worker': {'threads': 2}}
    """
    try:
        return json.loads(base64.urlsafe_b64decode(data))
    except ValueError as error:
        raise InvalidArgument(
            f"found {data!r:.80}, expected what config.serialize returned ({error})"
        ) from None


def expand_environment_variables(config: Any) -> Any:
    """Return configuration with ``$NAME`` and ``${NAME}`` in its text replaced.

    Variables that are not set stay as they are.

    Examples
    --------
    >>> os.environ["PLACE"] = "there"
    >>> expand_environment_variables({"x": ["$PLACE", 1]})
    {'x': ['there', 1]}
    >>> del os.environ["PLACE"]
    """
    if isinstance(config, Mapping):
        return {key: expand_environment_variables(value) for key, value in config.items()}
    if isinstance(config, str):
        return os.path.expandvars(config)
    if isinstance(config, list | tuple | set):
        return type(config)(expand_environment_variables(value) for value in config)
    return config

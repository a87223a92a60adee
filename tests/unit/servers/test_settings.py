"""What workers have of resources, as a command line says it."""

from __future__ import annotations

import pytest

from zcluster.errors import InvalidArgument
from zcluster.servers.settings import parse_resources


def test_names_and_amounts() -> None:
    assert parse_resources("") == {}
    assert parse_resources("GPU=1 FOO=2.5") == parse_resources("GPU=1,FOO=2.5")
    assert parse_resources("GPU=1 FOO=2.5") == {"GPU": 1.0, "FOO": 2.5}
    assert parse_resources("MEM=1e9") == {"MEM": 1e9}


@pytest.mark.parametrize("text", ["GPU", "GPU=", "=1", "GPU=x", "GPU=-1", "GPU=inf", "GPU=1 GPU=2"])
def test_what_cannot_be_meant_is_named(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"resource 'G?P?U?=?.*'GPU=1 FOO=2\.5'"):
        parse_resources(text)

"""Versions are compared, and what differs is shown as a table."""

from __future__ import annotations

import pytest

from zcluster.client.versions import check_versions, differences
from zcluster.errors import VersionMismatch


def test_equal_versions_and_silence_are_no_difference() -> None:
    same = {"scheduler": {"python": "3.12"}, "client": {"python": "3.12", "numpy": "2.1"}}
    assert differences(same) == {}
    check_versions(same)
    check_versions({})


def test_the_table_groups_who_has_what() -> None:
    many: dict[str, dict[str, str | None]] = {f"w-{n}": {"numpy": "2.1"} for n in range(10)}
    many |= {"client": {"numpy": "2.0"}, "odd": {"numpy": None}}
    assert set(differences(many)["numpy"].values()) == {"2.1", "2.0", None}
    with pytest.raises(VersionMismatch) as caught:
        check_versions(many)
    lines = str(caught.value).splitlines()
    assert lines[1].split() == ["package", "version", "where"]
    assert lines[2].startswith("numpy    2.1      w-0, w-1,")
    assert lines[2].endswith("w-7 and 2 more")
    assert lines[3] == "numpy    2.0      client"
    assert lines[4].startswith("numpy    none     odd")

"""The table of keys: every default is one that the table itself would accept."""

from __future__ import annotations

import pytest

from zcluster.config.defaults import ALIASES, KEYS, TABLE, Key
from zcluster.config.sources import normal, read_environment


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
class TestKey:
    def test_its_name_is_the_one_spelling(self, key: Key) -> None:
        assert normal(key.name) == key.name

    def test_its_default_is_of_its_kind(self, key: Key) -> None:
        checked = key.check(key.default, "the table")
        assert checked == key.default
        assert type(checked) is type(key.default)

    def test_its_variable_sets_it(self, key: Key) -> None:
        (source,) = read_environment({key.variable: repr(key.default).strip("'")})
        assert source.values == {key.name: key.default}

    def test_its_sentence_is_one(self, key: Key) -> None:
        assert key.sentence.endswith(".")
        assert key.expected


def test_names_are_given_once_and_no_key_is_a_section() -> None:
    assert len(TABLE) == len(KEYS)
    sections = {key.name.rpartition(".")[0] for key in KEYS}
    assert not sections & TABLE.keys()
    assert set(ALIASES.values()) <= TABLE.keys()

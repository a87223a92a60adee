"""Settings: what is given counts, then the configuration, and nothing changes them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import pytest

from zcluster import config
from zcluster.config import Settings
from zcluster.config.defaults import TABLE


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().stop_grace = 2.0  # type: ignore[misc]


def test_without_a_configuration_they_are_the_defaults() -> None:
    made = Settings()
    for field in fields(Settings):
        assert getattr(made, field.name) == field.default
        assert getattr(Settings, field.name) == field.default
    assert made == Settings(start_timeout=30.0)


def test_every_field_has_a_key_that_sets_it() -> None:
    for field in fields(Settings):
        name = field.name.replace("_", "-")
        (key,) = [key for key in TABLE if key.endswith(f".{name}")]
        with config.set({key: 0.25}):
            assert getattr(Settings(), field.name) == 0.25
            assert getattr(Settings(**{field.name: 0.5}), field.name) == 0.5
            assert getattr(replace(Settings(), **{field.name: 0.5}), field.name) == 0.5

"""What is logged, and how, comes from the configuration; an explicit level overrides it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from zcluster import config
from zcluster.errors import InvalidArgument


@contextmanager
def fresh_root() -> Iterator[logging.Logger]:
    """Give the root logger as a fresh process has it; pytest hangs its own handlers on it."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    logger.handlers.clear()
    try:
        yield logger
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def test_the_role_is_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    with fresh_root():
        config.configure_logging("node-3")
        logging.getLogger("zcluster.x").warning("it is %s", "late")
        logging.getLogger("zcluster.x").info("nobody asked")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].endswith("WARNING node-3 zcluster.x: it is late")


def test_level_and_format_are_configured(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {"logging.level": "info", "logging.format": "%(role)s|%(message)s"}
    with fresh_root(), config.set(wanted):
        config.configure_logging("scheduler")
        logging.getLogger("x").info("hello")
    assert capsys.readouterr().err == "scheduler|hello\n"


def test_a_level_given_overrides() -> None:
    with fresh_root() as root, config.set({"logging.level": "info"}):
        config.configure_logging("scheduler", "error")
        assert root.level == logging.ERROR


def test_a_format_that_is_none_says_where_to_look() -> None:
    with (
        config.set({"logging.format": "%(nonsense"}),
        pytest.raises(InvalidArgument, match=r"zcluster config find logging\.format"),
    ):
        config.configure_logging("scheduler")

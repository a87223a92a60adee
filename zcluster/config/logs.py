"""What schedulers, nannies and workers log, and how."""

from __future__ import annotations

import logging

from zcluster.config.values import get
from zcluster.errors import InvalidArgument

__all__ = ["configure_logging"]


def configure_logging(role: str, level: str | None = None) -> None:
    """Have this process log to standard error, at the level and in the format configured.

    Does nothing where the root logger has handlers already, as `logging.basicConfig`.

    Parameters
    ----------
    role : str
        What ``%(role)s`` stands for in the format: ``"scheduler"``, or a worker's name.
    level : str, optional
        ``"debug"``, ``"info"``, ``"warning"`` or ``"error"``, instead of the configured one.

    Raises
    ------
    InvalidArgument
        If the format configured is none.
    """
    text = get("logging.format")
    try:
        formatter = logging.Formatter(text, defaults={"role": role})
    except ValueError as error:
        raise InvalidArgument(
            f"logging.format is {text!r}, which is no format of Python's logging ({error}); "
            "'zcluster config find logging.format' says where it is set"
        ) from None
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=(level or get("logging.level")).upper(), handlers=[handler])

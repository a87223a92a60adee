"""Every key of the configuration: its default, what it may be, and what it does.

The page of the documentation, ``zcluster config list`` and the check of what files and
variables say are all made from `KEYS`. A default of None means that whoever reads the key
decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zcluster.config.sizes import parse_bytes, parse_memory_limit
from zcluster.config.times import parse_timedelta
from zcluster.errors import InvalidArgument

__all__ = ["ALIASES", "KEYS", "OTHER_VARIABLES", "PREFIX", "TABLE", "Key", "Kind"]

PREFIX = "ZCLUSTER_"


@dataclass(frozen=True)
class Kind:
    """What a value may be.

    Attributes
    ----------
    name : str
        What is expected, in words.
    accepts : callable
        Returns the value, perhaps converted, or raises `ValueError`.
    is_text : bool
        Whether text that looks like a number stays text.
    """

    name: str
    accepts: Callable[[Any], Any]
    is_text: bool = False


@dataclass(frozen=True)
class Key:
    """One key: ``name`` is how it is spelled, ``sentence`` what it does."""

    name: str
    default: Any
    kind: Kind
    sentence: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it.

        >>> TABLE["worker.memory-limit"].variable
        'ZCLUSTER_WORKER__MEMORY_LIMIT'
        """
        return PREFIX + self.name.upper().replace(".", "__").replace("-", "_")

    @property
    def expected(self) -> str:
        """What it may be, in words."""
        return self.kind.name + (", or none" if self.default is None else "")

    def check(self, value: Any, source: str) -> Any:
        """Return a value, perhaps converted.

        Raises
        ------
        InvalidArgument
            If it is not of the key's kind; ``source`` says where it was found.

        Examples
        --------
        >>> TABLE["client.timeout"].check(3, "a file")
        3.0
        """
        if value is None and self.default is None:
            return None
        try:
            return self.kind.accepts(value)
        except ValueError as error:
            detail = f": {error}" if isinstance(error, InvalidArgument) else ""
            raise InvalidArgument(
                f"{source} sets {self.name} to {value!r}, expected {self.expected}{detail}; "
                "correct it there, or take it out"
            ) from None


def _seconds(value: Any) -> float:
    seconds: float | None = parse_timedelta(value)
    if seconds is None or not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError
    return seconds


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError
    return float(value)


def _share_or_never(value: Any) -> float:
    return 0.0 if value is False or value is None else _share(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4096:
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise ValueError


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _size(value: Any) -> int:
    return parse_bytes(value)


def _memory(value: Any) -> int | float | str:
    parse_memory_limit(value)  # it is a share of a machine that may not be this one
    return value  # type: ignore[no-any-return]


def _runner(value: Any) -> Any:
    """Names are checked by who looks them up; a program may set a runner itself."""
    if value is None or isinstance(value, int | float | dict | list):
        raise ValueError
    return value


def _one_of(*choices: Any) -> Kind:
    def accepts(value: Any) -> Any:
        for choice in choices:
            if value == choice and isinstance(value, bool) == isinstance(choice, bool):
                return choice
        raise ValueError

    words = [str(choice).lower() if isinstance(choice, bool) else choice for choice in choices]
    return Kind(f"{', '.join(words[:-1])} or {words[-1]}", accepts)


_SECONDS = Kind("seconds, or text such as '500ms'", _seconds)
_SHARE = Kind("a share above 0, up to 1", _share)
_SHARE_OR_NEVER = Kind("a share above 0, up to 1, or false for never", _share_or_never)
_COUNT = Kind("a whole number from 1 to 4096", _count)
_FLAG = Kind("true or false", _flag)
_TEXT = Kind("text", _text, is_text=True)
_SIZE = Kind("a size such as '64KiB'", _size)
_MEMORY = Kind("a size such as '2GB', a share such as 0.5, 'auto', or 0 for no limit", _memory)
_RUNNER = Kind("'sync', 'threads' or 'processes'", _runner, is_text=True)

KEYS = (
    Key(
        "scheduler",
        None,
        _RUNNER,
        "What `compute()` runs on where it is not told: a name. Unset, the newest client, or "
        "threads where there is none.",
    ),
    Key(
        "num-workers",
        None,
        _COUNT,
        "Threads or processes of those runners. Unset, one for each processor.",
    ),
    Key(
        "progress",
        "auto",
        _one_of("auto", True, False),
        "Whether waiting shows a progress bar; `auto` shows it to people only: in a terminal or "
        "a notebook.",
    ),
    Key(
        "traceback.full",
        False,
        _FLAG,
        "Whether the traceback of a task's exception shows zcluster's own frames.",
    ),
    Key(
        "output.forward",
        True,
        _FLAG,
        "Whether what tasks print, log and warn of appears at the client.",
    ),
    Key(
        "output.rate",
        64 * 1024,
        _SIZE,
        "Bytes a second of such output, from each worker; more is left out, and said so.",
    ),
    Key("output.prefix", True, _FLAG, "Whether its lines begin with the worker's name."),
    Key(
        "logging.level",
        "warning",
        _one_of("debug", "info", "warning", "error"),
        "What schedulers, nannies and workers log; `--log-level` overrides it.",
    ),
    Key(
        "logging.format",
        "%(asctime)s %(levelname)s %(role)s %(name)s: %(message)s",
        _TEXT,
        "How they log it: a format of Python's `logging`; `role` is the process's name.",
    ),
    Key(
        "array.large-value",
        64 * 1024**2,
        _SIZE,
        "An array of NumPy of more bytes than this in a graph that goes to other processes is "
        "warned of; it is sent once.",
    ),
    Key("client.timeout", 30.0, _SECONDS, "How long a client waits for its cluster to answer."),
    Key(
        "client.unrunnable",
        "warn",
        _one_of("warn", "raise"),
        "What a client does about tasks that no worker there can run.",
    ),
    Key(
        "worker.threads",
        None,
        _COUNT,
        "Threads of each worker. Unset, a fair share of the processors.",
    ),
    Key("worker.memory-limit", "auto", _MEMORY, "Memory of each worker."),
    Key(
        "worker.memory.target",
        0.6,
        _SHARE_OR_NEVER,
        "Share of the limits of a node's workers that results in memory may take before the "
        "least recently used go to disk.",
    ),
    Key(
        "worker.memory.spill",
        0.7,
        _SHARE_OR_NEVER,
        "Share of its limit that a worker may be charged, its own memory and results, before "
        "results go to disk.",
    ),
    Key(
        "worker.memory.pause",
        0.8,
        _SHARE_OR_NEVER,
        "Share of its limit above which it gets no more tasks for now.",
    ),
    Key(
        "worker.memory.terminate",
        0.95,
        _SHARE_OR_NEVER,
        "Share of its limit that a worker may have for itself before its nanny replaces it.",
    ),
    Key(
        "worker.death-timeout",
        60.0,
        _SECONDS,
        "How long a nanny waits for its scheduler, at start and after losing it.",
    ),
    Key(
        "worker.store-share",
        0.7,
        _SHARE,
        "Share of a node's memory that results may take at most; from `worker.memory.target` on "
        "some go to disk.",
    ),
    Key(
        "worker.spill-limit",
        None,
        _SIZE,
        "Bytes of results that a node keeps on disk at most. Unset, what there is room for.",
    ),
    Key(
        "array.chunk-size",
        128 << 20,
        _SIZE,
        "Bytes of a block of an array, about, where its chunks are chosen automatically.",
    ),
    Key("cluster.start-timeout", 30.0, _SECONDS, "How long a start may take before it fails."),
    Key(
        "cluster.stop-grace",
        1.0,
        _SECONDS,
        "How long a process that was told to stop may take before it is killed.",
    ),
    Key(
        "cluster.restart-first",
        0.1,
        _SECONDS,
        "Wait before a nanny that died is started again, the first time; doubled each time.",
    ),
    Key("cluster.restart-most", 30.0, _SECONDS, "The longest such wait."),
    Key(
        "cluster.restart-forget",
        60.0,
        _SECONDS,
        "A nanny that lived so long starts again after the first wait.",
    ),
    Key(
        "cluster.allowed-failures",
        3,
        _COUNT,
        "Workers that a task may take down; it fails with the last of them.",
    ),
)

#: By name.
TABLE = {key.name: key for key in KEYS}

#: Variables with a name of their own, and the key each sets.
ALIASES = {"ZCLUSTER_FULL_TRACEBACK": "traceback.full"}

#: Variables that begin like ours and are no configuration; one that ends in ``_`` stands for all
#: that begin so.
OTHER_VARIABLES = (
    "ZCLUSTER_CONFIG",
    "ZCLUSTER_PEERS_PYTHON",
    "ZCLUSTER_LAUNCHED",
    "ZCLUSTER_SCHEDULER_FILE",
    "ZCLUSTER_TEST_",
)

"""Configuration: named values from files, the environment and code; sizes; this machine.

>>> import zcluster.config
>>> zcluster.config.get("output.prefix")
True
>>> with zcluster.config.set({"output.prefix": False}):
...     zcluster.config.get("output.prefix")
False

Every key, with its default, is in `zcluster.config.defaults`. Where a value comes from,
the last one that has it:

1. the default;
2. ``/etc/zcluster/*.toml``, for a machine;
3. ``<sys.prefix>/etc/zcluster/*.toml``, for an installation of Python;
4. ``~/.config/zcluster/*.toml`` (or ``$XDG_CONFIG_HOME``), for a user;
5. the file or folder that ``ZCLUSTER_CONFIG`` names;
6. environment variables: ``ZCLUSTER_WORKER__MEMORY_LIMIT=2GB`` is ``worker.memory-limit``;
7. `set`.

Files and environment are read at the first `get`, once; `refresh` reads them again. In a key
``-`` and ``_`` are the same.

`Settings` holds the timings of a cluster: it is made once at the edge (a command, a client)
and passed down; what runs in the middle of a method reads no configuration.
"""

from __future__ import annotations

from zcluster.config.logs import configure_logging
from zcluster.config.machine import cpu_count, memory_total
from zcluster.config.settings import Settings
from zcluster.config.sizes import format_bytes, parse_bytes, parse_memory_limit
from zcluster.config.texts import deserialize, expand_environment_variables, serialize
from zcluster.config.threads import default_threads
from zcluster.config.times import Time, parse_timedelta
from zcluster.config.values import (
    Place,
    collect,
    config,
    get,
    merge,
    places,
    pop,
    refresh,
    set,
    update,
    update_defaults,
)

__all__ = [
    "Place",
    "Settings",
    "Time",
    "collect",
    "config",
    "configure_logging",
    "cpu_count",
    "default_threads",
    "deserialize",
    "expand_environment_variables",
    "format_bytes",
    "get",
    "memory_total",
    "merge",
    "parse_bytes",
    "parse_memory_limit",
    "parse_timedelta",
    "places",
    "pop",
    "refresh",
    "serialize",
    "set",
    "update",
    "update_defaults",
]

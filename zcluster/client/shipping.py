"""Source files that workers may lack, sent before the first task that needs them.

What a task refers to by name is imported where it runs. Workers on this host get
this process's import path and working directory and find the same files. For all
others, plain modules that lie beside the script (or in the working directory) are
read here, with what they import from there, and sent once; a worker uses them
where its own import fails or finds another source.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable

from zcluster.protocol.messages import Environment, Sources, Span
from zcluster.protocol.modules import (
    ModuleSource,
    module_sources,
    referenced_modules,
    script_folders,
)
from zcluster.types import Buffer

__all__ = ["BY_NAME", "Shipper", "environment"]

#: The opcode by which a pickle refers to something by name. Bytes without it name nothing.
BY_NAME = b"\x93"
#: Digests of callables that were looked at are forgotten past this many.
_MOST_SEEN = 10_000

#: CPython 3.11 counts the depth of a syntax tree in one place for all threads (gh-106905): two
#: that parse sources at once get SystemError, rarely.
_parsing = threading.Lock()


def environment(host: str) -> Environment:
    """Return how this process imports modules, for workers on the same host."""
    paths = [os.path.abspath(path or os.getcwd()) for path in sys.path]
    return Environment(list(dict.fromkeys(paths)), os.getcwd(), host)


class Shipper:
    """Finds the sources that have not been sent yet."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        #: Modules that were sent, or are not beside the script.
        self._settled: set[str] = set()
        self._sent: set[str] = set()

    def has_seen(self, digest: bytes) -> bool:
        """Whether a callable was looked at before; from now on it counts as seen."""
        if digest in self._seen:
            return True
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen.add(digest)
        return False

    def sources(self, pickles: Iterable[Buffer]) -> tuple[Sources, list[bytes]] | None:
        """Return the message with the modules that some pickles need, or None if none are new."""
        names: set[str] = set()
        for data in pickles:
            data = bytes(data)
            if BY_NAME in data:
                names |= referenced_modules(data)
        names -= self._settled
        if not names:
            return None
        self._settled |= names
        with _parsing:
            found = module_sources(names, script_folders())
        new = [module for module in found if module.name not in self._sent]
        return self._message(new) if new else None

    def _message(self, modules: list[ModuleSource]) -> tuple[Sources, list[bytes]]:
        described: list[tuple[str, bool, Span]] = []
        frame = bytearray()
        for module in modules:
            self._sent.add(module.name)
            start = len(frame)
            frame += module.source
            described.append((module.name, module.is_package, (0, start, len(frame))))
        return Sources(described), [bytes(frame)]

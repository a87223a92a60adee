"""What Python prints of a fault: kept for the error that tells of it, not for the terminal.

A segmentation fault ends in a dump of the stacks on standard error. Each attempt of the task would
print it again, most of it frames of ours.
"""

from __future__ import annotations

import os
import re

__all__ = ["FaultDump"]

_BEGIN = b"Fatal Python error:"
#: A dump is shorter; what goes on for longer is none.
_LIMIT = 300
_ROOT = os.path.dirname(os.path.dirname(__file__))
_NO_NEWS = re.compile(
    rb'  File "(%s/.*|.*/threading\.py", line \d+ in (run|_bootstrap\w*)$)|Extension modules:'
    % re.escape(os.fsencode(_ROOT))
)


class FaultDump:
    """The dump in what one worker prints on standard error, if there is one.

    Attributes
    ----------
    lines : list of bytes
        The dump, as it was printed.

    Examples
    --------
    >>> dump = FaultDump()
    >>> dump.take([b"mine", b"Fatal Python error: Aborted", b'  File "my.py", line 3 in f'])
    [b'mine']
    >>> dump.take([b'  File "/usr/lib/threading.py", line 982 in run'])
    []
    >>> dump.news()
    [b'Fatal Python error: Aborted', b'  File "my.py", line 3 in f']
    """

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def take(self, lines: list[bytes]) -> list[bytes]:
        """Keep the lines of the dump, and return the others."""
        start = 0
        if not self.lines:
            start = next((i for i, line in enumerate(lines) if line.startswith(_BEGIN)), len(lines))
        end = start + _LIMIT - len(self.lines)
        self.lines += lines[start:end]
        return lines[:start] + lines[end:]

    def news(self) -> list[bytes]:
        """Return the dump without the frames of zcluster and what is below them."""
        kept = [line for line in self.lines if not _NO_NEWS.match(line)]
        while kept and not kept[-1].strip():
            kept.pop()
        return kept

"""A progress bar for futures, in a terminal or in a notebook."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from zcluster.client.bars import open_bar
from zcluster.client.completing import as_completed
from zcluster.client.future import Future
from zcluster.client.waiting import futures_in
from zcluster.tracebacks import hides_frames

__all__ = ["progress"]


@hides_frames
def progress(
    *futures: Any,
    notebook: bool | None = None,
    multi: bool = True,
    complete: bool = True,
    group_by: Any = "prefix",
    file: TextIO | None = None,
) -> None:
    """Show how many of some futures are done, until all are.

    Parameters
    ----------
    *futures : futures
        Alone or nested in containers.
    notebook : bool, optional
        False draws text also in a notebook.
    multi, group_by
        Accepted and not needed: there is one bar for all.
    complete : bool
        Leave the full bar when all are done.
    file : text file, optional
        Where to draw it; by default the cell of a notebook, or else standard error.

    Notes
    -----
    Errors are counted, not raised: ask the futures. Waits show such a bar by themselves
    where somebody looks; the configuration's ``progress`` switches that off.
    """
    if notebook is False and file is None:
        file = sys.stderr
    found: list[Future] = futures_in(*futures)
    done = failed = 0
    with open_bar(file, keep=complete) as bar:
        bar.show(0, len(found), 0)
        for batch in as_completed(found).batches():
            done += len(batch)
            failed += sum(future.status != "finished" for future in batch)
            bar.show(done, len(found), failed)

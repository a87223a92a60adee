"""A progress bar for futures in a terminal."""

from __future__ import annotations

import shutil
import sys
from typing import Any, TextIO

from zcluster.client.future import Future
from zcluster.client.waiting import as_completed, futures_in

__all__ = ["progress"]


def progress(*futures: Any, complete: bool = True, file: TextIO | None = None) -> None:
    """Show how many of some futures are done, until all are.

    Parameters
    ----------
    *futures : futures
        Alone or nested in containers.
    complete : bool
        Leave the full bar in the terminal.
    file : text file, optional
        Where to draw it; standard error by default.

    Notes
    -----
    Errors are counted, not raised: ask the futures.
    """
    # Not at the top: it takes longer to import than most of this package.
    from tqdm import tqdm

    found: list[Future] = futures_in(*futures)
    failed = 0
    size = shutil.get_terminal_size((0, 0))
    with tqdm(
        total=len(found),
        unit="task",
        file=file or sys.stderr,
        leave=complete,
        mininterval=0.1,
        # A terminal that does not know its size says 0, and tqdm would draw nothing.
        ncols=None if size.columns else 80,
        nrows=None if size.lines else 24,
    ) as bar:
        for batch in as_completed(found).batches():
            failed += sum(future.status != "finished" for future in batch)
            if failed:
                bar.set_postfix(failed=failed, refresh=False)
            bar.update(len(batch))

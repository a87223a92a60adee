"""``zcluster status``: a cluster's nodes and tasks, live in a terminal, else once.

What is asked of the scheduler costs it a count by layer of tasks and page of 512, not by task.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .connecting import ask_overview, cluster_options, connect
from .overview import Overview, as_text

if TYPE_CHECKING:
    from zcluster.client.client import Client

__all__ = ["status"]

#: Rows of the terminal that are not tasks: headline, titles, rules, what stands above.
_FRAME = 10
#: What ECMA-48 terminals, which is all there are, understand.
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


@click.command("status")
@cluster_options
@click.option("--once", is_flag=True, help="Print once, also in a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print once, as JSON.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
def status(
    address: str | None,
    scheduler_file: Path | None,
    insecure: bool,
    timeout: float,
    once: bool,
    as_json: bool,
    interval: float,
) -> None:
    """Show a cluster's nodes and tasks: live in a terminal, else once.

    The cluster is named by the ADDRESS its scheduler prints, or by --scheduler-file.
    """
    with connect(address, scheduler_file, insecure, timeout) as client:
        first = look(client, None)
        if as_json:
            click.echo(json.dumps(dict(first.answer), indent=2))
        elif once or not sys.stdout.isatty():
            click.echo(as_text(first))
        else:
            _watch(client, first, interval)


def look(client: Client, earlier: Overview | None) -> Overview:
    """Return how the cluster is now."""
    return Overview.after(earlier, ask_overview(client))


def _watch(client: Client, overview: Overview, interval: float) -> None:
    """Show overviews until Ctrl-C, which is how people leave."""
    pause = threading.Event()
    click.echo(_HIDE_CURSOR, nl=False)
    try:
        while True:
            click.echo(redrawn(overview, *shutil.get_terminal_size()), nl=False)
            pause.wait(interval)
            overview = look(client, overview)
    finally:
        click.echo(_SHOW_CURSOR)


def redrawn(overview: Overview, width: int, height: int) -> str:
    """Return what puts an overview in the place of the one before, in a terminal.

    Each line is written over the old one, so that nothing flickers.
    """
    room = max(4, height - _FRAME)
    lines = as_text(overview, nodes=room // 2, names=room - room // 2).splitlines()
    lines += ["", "Ctrl-C ends this view"]
    shown = [line[: width - 1] + _CLEAR_LINE for line in lines[: height - 1]]
    return _HOME + "\n".join(shown) + "\n" + _CLEAR_BELOW

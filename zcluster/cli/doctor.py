"""``zcluster doctor``: what to run, and to send along, when something does not work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import FAILED
from .connecting import ask_overview, cluster_options, connect, is_named
from .version import versions

if TYPE_CHECKING:
    from zcluster.client.client import Client

    from .checks import Finding

__all__ = ["cluster_findings", "compare", "doctor"]

#: Versions that must be equal, and by how many of their numbers: what is pickled by one Python
#: does not load in another.
_MUST_AGREE = {"Python": 2, "zcluster": 2}
_SHOULD_AGREE = {"NumPy": 1}

_COLORS = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


@click.command("doctor")
@cluster_options
@click.option(
    "--shared",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder that all machines see, to be tried as well.",
)
def doctor(
    address: str | None,
    scheduler_file: Path | None,
    insecure: bool,
    timeout: float,
    shared: Path | None,
) -> int:
    """Check this machine, and a cluster if one is named.

    Prints a line for each thing looked at; the exit status is 1 if one of them will not work.
    """
    from .checks import machine_findings, shared_findings  # not for --help: ZeroMQ, psutil

    failed = 0
    for finding in machine_findings():
        failed += _report(finding)
    if shared is not None:
        for finding in shared_findings(shared):
            failed += _report(finding)
    if is_named(address, scheduler_file):
        with connect(address, scheduler_file, insecure, timeout) as client:
            for finding in cluster_findings(client, timeout):
                failed += _report(finding)
    click.echo(f"{failed} of these will not work" if failed else "nothing here stands in the way")
    return FAILED if failed else 0


def _report(finding: Finding) -> bool:
    """Print a finding; tell whether it is a failure."""
    level = click.style(f"{finding.level:<4}", fg=_COLORS[finding.level])
    click.echo(f"{level}  {finding.title}: {finding.sentence}")
    return finding.level == "FAIL"


def cluster_findings(client: Client, timeout: float) -> Iterator[Finding]:
    """Yield what a cluster's workers say of themselves, compared with this process."""
    from .checks import FAIL, OK, WARN, Finding

    answer = ask_overview(client)
    hosts = {worker["name"]: node["host"] for node in answer["nodes"] for worker in node["workers"]}
    yield Finding(OK, "scheduler", f"answers at {answer['address']}")
    if not hosts:
        yield Finding(WARN, "workers", "none are there; start some with 'zcluster worker'")
    ours = versions()
    # Before whatever else waits there.
    asked = {
        name: client.submit(versions, workers=[name], pure=False, priority=1000) for name in hosts
    }
    for name, future in asked.items():
        title = f"worker {name}"
        try:
            theirs = future.result(timeout)
        except TimeoutError:
            sentence = f"did not come to answering within {timeout:g} s: busy, or stuck"
            yield Finding(WARN, title, f"{sentence}; give it longer with --timeout")
            continue
        except Exception as error:  # whatever keeps a worker from answering is the finding
            yield Finding(FAIL, title, f"{type(error).__name__}: {error}")
            continue
        wrong, odd = compare(ours, theirs, _MUST_AGREE), compare(ours, theirs, _SHOULD_AGREE)
        if wrong:
            yield Finding(FAIL, title, f"{wrong}; install the same on all machines")
        elif odd:
            yield Finding(WARN, title, f"{odd}; arrays may not load, install the same everywhere")
        else:
            yield Finding(OK, title, f"on {hosts[name]}, same versions as here")


def compare(ours: Mapping[str, str], theirs: Mapping[str, str], depths: Mapping[str, int]) -> str:
    """Return how two sets of versions differ, empty if they do not as far as it matters.

    Examples
    --------
    >>> compare({"Python": "3.11.7"}, {"Python": "3.11.9"}, {"Python": 2})
    ''
    >>> compare({"Python": "3.11.7"}, {"Python": "3.12.1"}, {"Python": 2})
    'Python is 3.12.1 there and 3.11.7 here'
    """
    return ", ".join(
        f"{name} is {theirs[name]} there and {ours[name]} here"
        for name, depth in depths.items()
        if ours[name].split(".")[:depth] != theirs[name].split(".")[:depth]
    )

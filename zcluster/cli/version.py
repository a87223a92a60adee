"""``zcluster version``: what a report of a problem should say."""

from __future__ import annotations

import platform

import click

from zcluster.version import __version__

__all__ = ["version", "versions"]


def versions() -> dict[str, str]:
    """Return the versions that decide whether two machines understand each other."""
    import numpy as np  # not at the top: with ZeroMQ, a tenth of a second that --help saves
    import zmq

    return {
        "zcluster": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


@click.command("version")
def version() -> None:
    """Print the versions that matter."""
    for name, found in versions().items():
        click.echo(f"{name:<9}{found}")

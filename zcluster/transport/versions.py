"""What a process runs with: the versions that have to fit together in a cluster."""

from __future__ import annotations

import platform
from collections.abc import Iterable

import msgspec
import zmq

from zcluster.version import __version__

__all__ = ["package_versions"]


def package_versions(packages: Iterable[str] = ()) -> dict[str, str | None]:
    """Return the versions of Python, of zcluster and what it is made of, and of packages.

    Parameters
    ----------
    packages : iterable of str
        Names of installed packages; of those that are not, the version is None.

    Examples
    --------
    >>> package_versions(["no-such-package"])["no-such-package"] is None
    True
    """
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        "zcluster": __version__,
        "pyzmq": zmq.__version__,
        "libzmq": zmq.zmq_version(),
        "msgspec": msgspec.__version__,
    }
    packages = [name for name in packages if name not in found]
    if packages:
        # Not at the top: 20 ms, for who asks about more than what is loaded anyway.
        from importlib.metadata import PackageNotFoundError, version

        for name in packages:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = None
    return found

"""The versions a process says it has."""

from __future__ import annotations

import platform
from importlib.metadata import version

from zcluster.transport.versions import package_versions
from zcluster.version import __version__


def test_what_every_part_of_a_cluster_needs_is_there() -> None:
    found = package_versions()
    assert found["python"] == platform.python_version()
    assert found["zcluster"] == __version__
    assert found["pyzmq"] == version("pyzmq")
    assert found["msgspec"] == version("msgspec")
    assert set(found) == {"python", "zcluster", "pyzmq", "libzmq", "msgspec"}


def test_other_packages_are_looked_up_and_may_be_absent() -> None:
    found = package_versions(["numpy", "no-such-package", "pyzmq"])
    assert found["numpy"] == version("numpy")
    assert found["no-such-package"] is None
    assert list(found).count("pyzmq") == 1

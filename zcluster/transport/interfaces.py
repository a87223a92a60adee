"""From the name of a network interface to the address that others reach it by."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from zcluster.errors import InvalidArgument

__all__ = ["Entry", "interface_address"]

#: How IPv6 addresses begin that mean nothing away from their own wire: fe80::/10.
_LINK_LOCAL: Final = ("fe8", "fe9", "fea", "feb")


class Entry(Protocol):
    """One address of an interface, as `psutil.net_if_addrs` has it."""

    @property
    def family(self) -> int:
        """One of the constants ``socket.AF_…``."""

    @property
    def address(self) -> str:
        """The address, of a network or of the hardware."""


def interface_address(interface: str, table: Mapping[str, Sequence[Entry]] | None = None) -> str:
    """Return the address of a network interface, IPv4 if it has one.

    A link-local IPv6 address is none: with it goes the name of the interface at the *other* end.

    Parameters
    ----------
    interface : str
        Its name, as in ``ib0``.
    table : mapping, optional
        The addresses of each interface; those of this machine if absent.

    Raises
    ------
    InvalidArgument
        If there is no such interface, or it has no address; the message lists those that have.

    Examples
    --------
    >>> from collections import namedtuple
    >>> entry = namedtuple("entry", "family address")
    >>> interface_address("ib0", {"ib0": [entry(socket.AF_INET, "10.10.0.7")]})
    '10.10.0.7'
    """
    if table is None:
        import psutil  # not at the top: it takes 20 ms, and few name an interface

        table = psutil.net_if_addrs()
    address = _best_address(table.get(interface, ()))
    if address is not None:
        return address
    present = ((name, _best_address(entries)) for name, entries in sorted(table.items()))
    usable = ", ".join(f"{name} ({its})" for name, its in present if its is not None)
    state = "has no IP address" if interface in table else "does not exist"
    raise InvalidArgument(
        f"interface {interface!r} {state} on this machine, expected one of {usable}"
        if usable
        else f"interface {interface!r} {state} on this machine, and no other has an address; "
        "is the network up?"
    )


def _best_address(entries: Sequence[Entry]) -> str | None:
    """Return the address of an interface that others can use."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for entry in entries:
            address = entry.address.partition("%")[0]
            if entry.family == family and not address.lower().startswith(_LINK_LOCAL):
                return address
    return None

"""An interface is the address that others reach it by."""

from __future__ import annotations

import socket
from typing import NamedTuple

import psutil
import pytest

from zcluster.errors import InvalidArgument
from zcluster.transport.interfaces import interface_address

HARDWARE = 17  # AF_PACKET, which not every system has


class Address(NamedTuple):
    family: int
    address: str


def v4(address: str) -> Address:
    return Address(socket.AF_INET, address)


def v6(address: str) -> Address:
    return Address(socket.AF_INET6, address)


MAC = Address(HARDWARE, "02:00:0a:63:00:02")
TABLE = {
    "lo": [v4("127.0.0.1"), v6("::1")],
    "eth0": [MAC, v6("fe80::aff:fe63:2%eth0"), v4("10.99.0.2"), v4("10.99.0.3")],
    "ib0": [v6("fe80::1%ib0"), v6("fd00::2"), v6("fd00::3")],
    "ib1": [MAC, v6("FE80::1%ib1")],
    "ib2": [],
}


@pytest.mark.parametrize(
    ("interface", "address"), [("lo", "127.0.0.1"), ("eth0", "10.99.0.2"), ("ib0", "fd00::2")]
)
def test_ipv4_is_preferred_and_link_local_is_none(interface: str, address: str) -> None:
    assert interface_address(interface, TABLE) == address


@pytest.mark.parametrize(
    ("interface", "state"),
    [("ib9", "does not exist"), ("", "does not exist"), ("ib1", "has no IP"), ("ib2", "has no IP")],
)
def test_one_that_cannot_be_used_lists_those_that_can(interface: str, state: str) -> None:
    with pytest.raises(InvalidArgument, match=f"interface '{interface}' {state}") as caught:
        interface_address(interface, TABLE)
    assert "expected one of eth0 (10.99.0.2), ib0 (fd00::2), lo (127.0.0.1)" in str(caught.value)


@pytest.mark.parametrize("table", [{}, {"ib1": [MAC]}])
def test_a_machine_without_addresses_says_so(table: dict[str, list[Address]]) -> None:
    with pytest.raises(InvalidArgument, match="no other has an address; is the network up"):
        interface_address("ib0", table)


def test_by_default_it_is_this_machine() -> None:
    loopback = next(
        name
        for name, entries in psutil.net_if_addrs().items()
        if any(entry.address == "127.0.0.1" for entry in entries)
    )
    assert interface_address(loopback) == "127.0.0.1"
    with pytest.raises(InvalidArgument, match=rf"'zc-none' does not exist.*{loopback} \("):
        interface_address("zc-none")

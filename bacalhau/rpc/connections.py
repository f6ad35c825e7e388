"""The connections of gRPC's servers, which gRPC neither lists nor ends: they are looked up among the files of the
process and shut below gRPC, which then ends all calls on them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable

_NETWORK_BITS = 64
"""Of IPv6 whoever has one address has all that begin so."""


def shut(peer: str) -> None:
    """`peer` is the caller's end as gRPC says it: ipv4:ADDRESS:PORT."""
    address, _, port = unquote(peer).partition(":")[2].rpartition(":")
    remote = address.strip("[]"), int(port)

    def look(connection: socket.socket) -> None:
        if _remote(connection) == remote:
            connection.shutdown(socket.SHUT_RDWR)

    _each(look)


def count_at(port: int) -> int:
    """How many connections a listener at this port has."""
    found: list[int] = []

    def look(connection: socket.socket) -> None:
        if connection.getsockname()[1] == port and connection.getpeername():
            found.append(connection.fileno())

    _each(look)
    return len(found)


def shut_beyond(port: int, each: int) -> dict[str, int]:
    """Shuts the connections to a listener of every host that has more than `each`, of which the older stay; how many,
    by host."""
    held: Counter[str] = Counter()

    def look(connection: socket.socket) -> None:
        host = _host(_remote(connection)[0])
        if connection.getsockname()[1] == port:
            held[host] += 1
            if held[host] > each:
                connection.shutdown(socket.SHUT_RDWR)

    _each(look)
    return {host: number - each for host, number in held.items() if number > each}


def _each(look: Callable[[socket.socket], None]) -> None:
    """Each connection of this process, by the numbers of their files: mostly in the order of their coming."""
    for number in sorted(map(int, os.listdir("/dev/fd"))):
        with contextlib.suppress(OSError):  # no socket, not connected, or closed meanwhile
            connection = socket.socket(fileno=number)
            try:
                if connection.family in (socket.AF_INET, socket.AF_INET6):
                    look(connection)
            finally:
                connection.detach()  # it is gRPC's to close


def _remote(connection: socket.socket) -> tuple[str, int]:
    host, port, *_ = connection.getpeername()
    # gRPC listens by IPv6 also where its address is one of IPv4.
    return host.removeprefix("::ffff:"), port


def _host(address: str) -> str:
    if ":" not in address:
        return address
    plain = IPv6Address(address.partition("%")[0])
    return str(IPv6Network((plain, _NETWORK_BITS), strict=False))

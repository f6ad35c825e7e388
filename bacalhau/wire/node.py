"""Node records, to and from node.proto."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from bacalhau.model.job import Engine
from bacalhau.model.market import Tariff
from bacalhau.model.node import NodeRecord
from bacalhau.v1 import node_pb2
from bacalhau.wire import fields, limits
from bacalhau.wire.identity import InvalidNodeId, public_key_of
from bacalhau.wire.job import labels_from_proto, labels_to_proto
from bacalhau.wire.resources import price_from_proto, resources_from_proto, resources_to_proto

_ADDRESS: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.-]+)):(?P<port>[0-9]{1,5})", re.ASCII
)
# What libp2p hosts here listen on, and no more: IP or DNS, and TCP.
_MULTIADDR: Final = re.compile(
    r"/(?:ip4/(?P<four>[0-9.]+)|ip6/(?P<six>[0-9A-Fa-f:.]+)|dns[46]?/[A-Za-z0-9_.-]+)/tcp/(?P<port>[0-9]{1,5})",
    re.ASCII,
)


def node_id_from_proto(text: str, field: str) -> str:
    """A peer id of an Ed25519 key."""
    try:
        public_key_of(text)
    except InvalidNodeId as error:
        raise fields.malformed(field, f"is no node id: {error}") from error
    return text


def address_from_proto(text: str, field: str) -> str:
    """HOST:PORT, with an IPv6 address in brackets."""
    found = _ADDRESS.fullmatch(text) if len(text) <= limits.MAX_ADDRESS_CHARS else None
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise fields.malformed(
            field, f"must be HOST:PORT, for instance 192.0.2.7:1235, got {fields.shown(text)}"
        )
    if found["six"] is not None:
        try:
            ipaddress.IPv6Address(found["six"])
        except ValueError as error:
            raise fields.malformed(
                field, f"has no IPv6 address in its brackets: {fields.shown(text)}"
            ) from error
    return text


def multiaddr_from_proto(text: str, field: str) -> str:
    """A multiaddr of TCP over IP or a DNS name, without a peer id."""
    found = _MULTIADDR.fullmatch(text) if len(text) <= limits.MAX_ADDRESS_CHARS else None
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise fields.malformed(
            field, f"must be a multiaddr, for instance /ip4/192.0.2.7/tcp/1236, got {fields.shown(text)}"
        )
    try:
        if found["four"] is not None:
            ipaddress.IPv4Address(found["four"])
        elif found["six"] is not None:
            ipaddress.IPv6Address(found["six"])
    except ValueError as error:
        raise fields.malformed(field, f"has no IP address where one must be: {fields.shown(text)}") from error
    return text


def tariff_to_proto(tariff: Tariff) -> node_pb2.Tariff:
    return node_pb2.Tariff(
        start_microcredits=tariff.start_microcredits,
        cpu_second_microcredits=tariff.cpu_second_microcredits,
        memory_gib_second_microcredits=tariff.memory_gib_second_microcredits,
        input_gib_microcredits=tariff.input_gib_microcredits,
    )


def tariff_from_proto(message: node_pb2.Tariff, field: str = "tariff") -> Tariff:
    return Tariff(
        price_from_proto(message.start_microcredits, f"{field}.start_microcredits"),
        price_from_proto(message.cpu_second_microcredits, f"{field}.cpu_second_microcredits"),
        price_from_proto(message.memory_gib_second_microcredits, f"{field}.memory_gib_second_microcredits"),
        price_from_proto(message.input_gib_microcredits, f"{field}.input_gib_microcredits"),
    )


def record_to_proto(record: NodeRecord) -> node_pb2.NodeRecord:
    return node_pb2.NodeRecord(
        node_id=record.node_id,
        addresses=record.addresses,
        certificate_digest=record.certificate_digest,
        sequence=record.sequence,
        compute=record.compute,
        requester=record.requester,
        engines=[fields.number(engine) for engine in record.engines],
        capacity=resources_to_proto(record.capacity),
        labels=labels_to_proto(record.labels),
        version=record.version,
        tariff=tariff_to_proto(record.tariff),
        multiaddrs=record.multiaddrs,
    )


def record_from_proto(message: node_pb2.NodeRecord) -> NodeRecord:
    """Raises Refused(MALFORMED)."""
    fields.at_most(message.addresses, "addresses", limits.MAX_ADDRESSES)
    fields.distinct(message.addresses, "addresses")
    fields.at_most(message.multiaddrs, "multiaddrs", limits.MAX_ADDRESSES)
    fields.distinct(message.multiaddrs, "multiaddrs")
    fields.at_most(message.engines, "engines", len(Engine))
    engines = tuple(fields.member(Engine, value, f"engines[{i}]") for i, value in enumerate(message.engines))
    fields.distinct((engine.name for engine in engines), "engines")
    return NodeRecord(
        node_id=node_id_from_proto(message.node_id, "node_id"),
        addresses=tuple(
            address_from_proto(text, f"addresses[{i}]") for i, text in enumerate(message.addresses)
        ),
        certificate_digest=fields.digest(message.certificate_digest, "certificate_digest"),
        sequence=fields.whole(message.sequence, "sequence", 0, 2**63 - 1),
        compute=message.compute,
        requester=message.requester,
        engines=engines,
        capacity=resources_from_proto(message.capacity, "capacity"),
        labels=labels_from_proto(message.labels, "labels"),
        version=fields.name(message.version, "version"),
        tariff=tariff_from_proto(message.tariff),
        multiaddrs=tuple(
            multiaddr_from_proto(text, f"multiaddrs[{i}]") for i, text in enumerate(message.multiaddrs)
        ),
    )

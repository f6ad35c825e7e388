"""Amounts of resources and prices, to and from resources.proto."""

from __future__ import annotations

from bacalhau.model.resources import DEFAULT_JOB_RESOURCES, Resources
from bacalhau.v1 import resources_pb2
from bacalhau.wire import fields, limits


def resources_to_proto(resources: Resources) -> resources_pb2.Resources:
    return resources_pb2.Resources(
        cpu_millicores=resources.cpu_millicores,
        memory_bytes=resources.memory_bytes,
        disk_bytes=resources.disk_bytes,
        gpu_count=resources.gpu_count,
    )


def resources_from_proto(message: resources_pb2.Resources, field: str, *, low: int = 0) -> Resources:
    """Amounts as they stand; `low` is the least of CPU, memory and disk. Raises Refused(MALFORMED)."""
    return Resources(
        fields.whole(message.cpu_millicores, f"{field}.cpu_millicores", low, limits.MAX_CPU_MILLICORES),
        fields.whole(message.memory_bytes, f"{field}.memory_bytes", low, limits.MAX_BYTES),
        fields.whole(message.disk_bytes, f"{field}.disk_bytes", low, limits.MAX_BYTES),
        fields.whole(message.gpu_count, f"{field}.gpu_count", 0, limits.MAX_GPUS),
    )


def job_resources_from_proto(message: resources_pb2.Resources, field: str) -> Resources:
    """What a job asks for: each amount that is 0 becomes that of DEFAULT_JOB_RESOURCES."""
    asked = resources_from_proto(message, field)
    return Resources(
        asked.cpu_millicores or DEFAULT_JOB_RESOURCES.cpu_millicores,
        asked.memory_bytes or DEFAULT_JOB_RESOURCES.memory_bytes,
        asked.disk_bytes or DEFAULT_JOB_RESOURCES.disk_bytes,
        asked.gpu_count or DEFAULT_JOB_RESOURCES.gpu_count,
    )


def price_from_proto(microcredits: int, field: str) -> int:
    return fields.whole(microcredits, field, 0, limits.MAX_PRICE_MICROCREDITS)

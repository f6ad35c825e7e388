"""Every setting of a node, with unit, default and limit. The CLI's flags and the tests make one of these."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.model.job import Engine
from bacalhau.model.market import Tariff
from bacalhau.model.quantities import format_duration
from bacalhau.model.resources import Resources
from bacalhau.model.units import DAY_US, HOUR_US, MIB, SECOND_US
from bacalhau.scheduler.config import DEFAULT_CREDIT, DEFAULT_PAYMENT
from bacalhau.wire.limits import MAX_BID_WINDOW_US, MAX_LEASE_US, MAX_TIMEOUT_US, MAX_VALID_FOR_US

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.market.credit import CreditPolicy
    from bacalhau.model.market import PaymentTerms


class InvalidSetting(ValueError):
    """A setting outside of its limits; the message names its flag."""


# Of one's record other nodes hear with each heartbeat, and it is valid for three of them.
HEARTBEAT_LIMITS_US = (SECOND_US // 10, MAX_VALID_FOR_US // 3)
BID_WINDOW_LIMITS_US = (SECOND_US // 100, MAX_BID_WINDOW_US)
LEASE_LIMITS_US = (SECOND_US, MAX_LEASE_US)
TIMEOUT_LIMITS_US = (SECOND_US, MAX_TIMEOUT_US)

DEFAULT_TARIFF = Tariff(
    start_microcredits=100,
    cpu_second_microcredits=10,
    memory_gib_second_microcredits=2,
    input_gib_microcredits=1000,
)
"""About 0.04 credits for a core with a GiB of memory for an hour."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a node; durations in microseconds. `None` of an amount is a share of the machine."""

    data_dir: Path
    import_key: Path | None = None
    """A file with a key of Kubo's, which becomes the node's where it has none yet."""
    # Where it listens; port 0 takes a free one.
    api_host: str = "127.0.0.1"
    api_port: int = 1234
    peer_host: str = "127.0.0.1"
    peer_port: int = 1235
    advertise: tuple[str, ...] = ()
    """HOST:PORT of the peer API, and multiaddrs of libp2p, where they are not those that it listens on."""
    peers: tuple[str, ...] = ()
    """HOST:PORT of a node's peer API, or the multiaddr of its libp2p host, which ends on /p2p/ID."""
    p2p_listen: tuple[str, ...] = ()
    """Multiaddrs for libp2p; it does not run where there is none."""
    advertised: bool = True
    """Its record says where it can be dialled."""
    mdns: bool = False
    dht: bool = True
    # The client API elsewhere than on the loopback interface demands both.
    api_token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    ipfs_api: str | None = None
    """The RPC API of the Kubo node that keeps this node's content, as URL or multiaddr; else it is kept in the data
    folder."""
    # What it is.
    requester: bool = True
    compute: bool = True
    engines: tuple[Engine, ...] = (Engine.DOCKER, Engine.WASM)
    labels: tuple[tuple[str, str], ...] = ()
    # What it gives. All of the machine's CPU (programs share it fairly), 80 % of its memory and of its free disk:
    # the node, its engines and the operator's own work need the rest.
    cpu_millicores: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    job_cpu_millicores: int | None = None
    job_memory_bytes: int | None = None
    job_disk_bytes: int | None = None
    execution_timeout_max_us: int = DAY_US
    # Which jobs it takes.
    accept_networked: bool = False
    reject_stateless: bool = False
    only_local_inputs: bool = False
    probe_command: str | None = None
    images: tuple[str, ...] = ()
    # Prices. A flat price replaces the tariff; the others wrap what these two give.
    tariff: Tariff = DEFAULT_TARIFF
    flat_price_microcredits: int | None = None
    bill_stranded: bool = False
    """Of each resource the larger of what is asked and of what it strands is billed."""
    held_input_discount_permille: int = 0
    price_by_reputation: bool = False
    """A requester that was seen to pay badly is asked more, up to ten times."""
    price_script: str | None = None
    price_floor_microcredits: int = 0
    bond_permille: int = 0
    """What its bids say that it forfeits where it is proven to have cheated, of their price."""
    fetch_bytes_per_second: int = 10_000_000
    """What bids estimate their start delay with."""
    # What requesters may owe for its work: each of them, and all together that have no limit of their own.
    credit: CreditPolicy = DEFAULT_CREDIT
    payment: PaymentTerms = DEFAULT_PAYMENT
    """How much of a price is due, in the offers of its own jobs."""
    # The market's clock.
    bid_window_us: int = SECOND_US
    lease_us: int = 30 * SECOND_US
    heartbeat_us: int = 5 * SECOND_US
    offers_to: int = 0
    """So many of the live nodes are offered a job of this node, picked anew each time; 0 is all."""
    min_reputation_ppm: int = 0
    """Nodes of a lower score get no award of this node, and no bid; 500,000 is that of an unknown node."""
    # How long what has ended is kept, and how often what is older is removed.
    keep_results_us: int = 7 * DAY_US
    keep_jobs_us: int = 30 * DAY_US
    upkeep_us: int = HOUR_US
    provide_again_us: int = 12 * HOUR_US
    """How often the DHT is told anew of what is kept: its nodes forget providers, Kubo after two days."""
    gc_grace_us: int = HOUR_US
    """Blocks that came within this time are not collected: whoever imports has that long to pin."""
    disk_reserve_bytes: int = 64 * MIB
    """Free disk that is kept for what was accepted: below it new jobs, offers and content are refused."""
    trace: Path | None = None
    metrics_port: int | None = None
    """Of the loopback interface, where Prometheus reads what the node counts; none is shown without."""
    ready_file: Path | None = None
    engine_check_us: int = 10 * SECOND_US
    """How often each engine is asked whether it still answers."""
    misbehave: str | None = None
    """What a bad node does with its work, for experiments: a value of node.misbehaviour.Misbehaviour."""
    probe_timeout_us: int = 5 * SECOND_US
    """How long the operator's probe may think."""

    def __post_init__(self) -> None:
        """Raises InvalidSetting. Outside of these limits other nodes would refuse what it says."""
        for flag, setting_us, (least_us, most_us) in (
            ("--heartbeat", self.heartbeat_us, HEARTBEAT_LIMITS_US),
            ("--bid-window", self.bid_window_us, BID_WINDOW_LIMITS_US),
            ("--lease", self.lease_us, LEASE_LIMITS_US),
            ("--max-timeout", self.execution_timeout_max_us, TIMEOUT_LIMITS_US),
        ):
            if not least_us <= setting_us <= most_us:
                between = f"{format_duration(least_us)} to {format_duration(most_us)}"
                raise InvalidSetting(f"{flag} must be from {between}, not {format_duration(setting_us)}")
        for flag, command in (
            ("--job-selection-probe-exec", self.probe_command),
            ("--price-script", self.price_script),
        ):
            try:
                words = shlex.split(command or "")
            except ValueError as error:
                raise InvalidSetting(f"{flag} {command!r} is no command line: {error}") from error
            if command is not None and not words:
                raise InvalidSetting(f"{flag} names no command")


def machine_capacity(settings: Settings) -> Resources:
    """What the node gives in all: what is set, else its share of the machine."""
    import os
    import shutil

    page_bytes, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free_disk_bytes = shutil.disk_usage(settings.data_dir).free
    return Resources(
        settings.cpu_millicores if settings.cpu_millicores is not None else cores * 1000,
        settings.memory_bytes
        if settings.memory_bytes is not None
        else page_bytes * pages * 8 // 10 // MIB * MIB,
        settings.disk_bytes if settings.disk_bytes is not None else free_disk_bytes * 8 // 10 // MIB * MIB,
    )


def job_limit(settings: Settings, capacity: Resources) -> Resources:
    """What one job may ask for: what is set, else all of it."""
    return Resources(
        settings.job_cpu_millicores if settings.job_cpu_millicores is not None else capacity.cpu_millicores,
        settings.job_memory_bytes if settings.job_memory_bytes is not None else capacity.memory_bytes,
        settings.job_disk_bytes if settings.job_disk_bytes is not None else capacity.disk_bytes,
    )

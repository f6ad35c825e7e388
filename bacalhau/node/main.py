"""`bacalhau serve`: a node in the foreground, until it is told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bacalhau.config import DEFAULT_TARIFF, InvalidSetting, Settings
from bacalhau.market.credit import CreditPolicy
from bacalhau.model.job import Engine
from bacalhau.model.market import Tariff
from bacalhau.node.allocator import keep_freed_memory, pass_over_what_stays
from bacalhau.node.network import P2P_MISSING, p2p_installed
from bacalhau.node.node import Node
from bacalhau.node.startup import CannotStart, allow_open_files
from bacalhau.rpc.servers import CannotListen
from bacalhau.scheduler.config import DEFAULT_CREDIT
from bacalhau.store.errors import StoreError
from bacalhau.wire.identity import InvalidKey

if TYPE_CHECKING:
    import argparse

EXIT_CANNOT_START = 125
P2P_PORT = 1236


def serve(args: argparse.Namespace) -> int:
    """Runs a node by the flags of `bacalhau serve`; the exit code. Says on stderr where it listens."""
    logging.basicConfig(
        level=args.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    keep_freed_memory()
    allow_open_files()
    try:
        return asyncio.run(_serve(settings_of(args)))
    except (CannotStart, CannotListen, InvalidSetting, StoreError, InvalidKey) as error:
        print(f"bacalhau: {error}", file=sys.stderr)
        return EXIT_CANNOT_START


def settings_of(args: argparse.Namespace) -> Settings:
    """Flags as settings; a flag that was not given leaves the default."""
    given: dict[str, object] = {
        "bid_window_us": args.bid_window,
        "lease_us": args.lease,
        "heartbeat_us": args.heartbeat,
        "offers_to": args.offers_to,
        "keep_results_us": args.keep_results,
        "keep_jobs_us": args.keep_jobs,
        "execution_timeout_max_us": args.max_timeout,
        "cpu_millicores": args.limit_total_cpu,
        "memory_bytes": args.limit_total_memory,
        "disk_bytes": args.limit_total_disk,
        "job_cpu_millicores": args.limit_job_cpu,
        "job_memory_bytes": args.limit_job_memory,
        "job_disk_bytes": args.limit_job_disk,
        "flat_price_microcredits": args.price_flat,
        "bill_stranded": args.pricing == "utilisation",
        "held_input_discount_permille": None
        if args.price_held_discount is None
        else args.price_held_discount * 10,
        "price_by_reputation": args.price_by_reputation,
        "price_script": args.price_script,
        "price_floor_microcredits": args.price_floor,
        "bond_permille": None if args.bond is None else args.bond * 10,
        "fetch_bytes_per_second": args.fetch_rate,
        "min_reputation_ppm": args.min_reputation,
        "ipfs_api": args.ipfs_api,
        "metrics_port": args.metrics_port,
        "misbehave": args.misbehave,
        "probe_command": args.probe_exec,
        "trace": _path(args.trace),
        "ready_file": _path(args.ready_file),
        "api_token_file": _path(args.api_token_file),
        "tls_cert": _path(args.tls_cert),
        "tls_key": _path(args.tls_key),
        "import_key": _path(args.import_key),
    }
    credit = CreditPolicy(
        DEFAULT_CREDIT.peer_limit_microcredits if args.credit_limit is None else args.credit_limit,
        DEFAULT_CREDIT.unproven_limit_microcredits if args.credit_unproven is None else args.credit_unproven,
    )
    disabled = [Engine[name.upper()] for name in args.disable_engine]
    return Settings(
        data_dir=_path(args.data_dir) or _default_data_dir(),
        api_host=args.host,
        api_port=args.api_port,
        peer_host=args.peer_host,
        peer_port=args.peer_port,
        advertise=tuple(args.advertise),
        peers=tuple(args.peer),
        p2p_listen=_p2p_listen(args),
        advertised=not args.no_advertise,
        mdns=args.mdns,
        dht=not args.no_dht,
        requester="requester" in args.node_type,
        compute="compute" in args.node_type,
        engines=tuple(engine for engine in Engine if engine not in disabled),
        labels=tuple(sorted(args.labels.items())),
        accept_networked=args.accept_networked,
        reject_stateless=args.reject_stateless,
        only_local_inputs=args.data_locality == "local",
        images=tuple(args.allow_image),
        tariff=_tariff(args),
        credit=credit,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )


def _p2p_listen(args: argparse.Namespace) -> tuple[str, ...]:
    """Where libp2p listens: as it was said, else beside the peer API; nowhere where it is off, or is not installed."""
    if args.no_p2p or (not args.p2p_listen and not p2p_installed()):
        return ()
    if args.p2p_listen:
        return tuple(args.p2p_listen)
    try:
        ip = ipaddress.ip_address(args.peer_host.strip("[]"))
    except ValueError:  # a name: libp2p listens on addresses only
        ip = ipaddress.ip_address("127.0.0.1")
    return (f"/ip{ip.version}/{ip}/tcp/{P2P_PORT if args.peer_port else 0}",)


def _tariff(args: argparse.Namespace) -> Tariff:
    def price(given: int | None, default: int) -> int:
        return default if given is None else given

    return Tariff(
        price(args.price_start, DEFAULT_TARIFF.start_microcredits),
        price(args.price_cpu_second, DEFAULT_TARIFF.cpu_second_microcredits),
        price(args.price_memory_gib_second, DEFAULT_TARIFF.memory_gib_second_microcredits),
        price(args.price_input_gib, DEFAULT_TARIFF.input_gib_microcredits),
    )


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser().absolute() if text else None


def _default_data_dir() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir("bacalhau"))


async def _serve(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    node = await Node.start(settings)
    try:
        pass_over_what_stays()
        _announce(node)
        waiting = loop.create_task(stopped.wait())
        await asyncio.wait((waiting, node.failed), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if node.failed.done():
            print(f"bacalhau: the node stops: {node.failed.result()}", file=sys.stderr)
            return 1
        print("stopping; open jobs go on at the next start", file=sys.stderr)
        return 0
    finally:
        await node.stop()


def _announce(node: Node) -> None:
    """Tells people on stderr, and programs by the ready file, who and where the node is."""
    host, _, port = node.api_address.rpartition(":")
    if host in ("0.0.0.0", "[::]"):
        host = "NAME_OF_THIS_MACHINE"
    engines = ", ".join(engine.name.lower() for engine in node.membership.record.engines) or "none"
    lines = [
        f"node {node.node_id} runs (engines: {engines})",
        f"  clients: {node.api_address}    nodes: {node.peer_address}    data: {node.settings.data_dir}",
        *([f"  metrics: http://{node.metrics_address}/metrics"] if node.metrics_address else []),
        *(f"  libp2p: {address}" for address in node.p2p_addresses),
        *(f"  note: {notice}" for notice in node.views.self_view().notices),
        *([f"  note: {P2P_MISSING}"] if not p2p_installed() else []),
        "To use it from another terminal:",
        f"  export BACALHAU_API_HOST={host} BACALHAU_API_PORT={port}",
        "To join it with another node:",
        f"  bacalhau serve --peer {node.peer_address} --api-port 0 --peer-port 0 --data-dir ANOTHER_FOLDER",
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)
    if node.settings.ready_file is not None:
        ready = {
            "node_id": node.node_id,
            "api_address": node.api_address,
            "peer_address": node.peer_address,
            "metrics_address": node.metrics_address,
            "p2p_addresses": node.p2p_addresses,
        }
        partial = node.settings.ready_file.with_name(node.settings.ready_file.name + ".partial")
        partial.write_text(json.dumps(ready), encoding="utf-8")
        partial.rename(node.settings.ready_file)

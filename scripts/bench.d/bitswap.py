"""Blocks over libp2p against Kubo to Kubo over the same loopback interface, and calls to a node that moves them.

What is timed is a pin: the content is brought whole into an empty store and kept, on either side. Each transfer has
content of its own, which nobody else holds.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
from claims import CannotMeasure, Claim, Finding, Goal, Round
from nodes import ENVIRONMENT, Client, Node, last_line, run_command, running_node, stop

from bacalhau.v1 import ipfs_service_pb2, ipfs_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

_MIB = 1024 * 1024
_START_S = 30
_CALL_INTERVAL_S = 0.005
_SWAPPER = Path(__file__).with_name("swap_blocks.py")
_KUBO = "Kubo from Kubo"

SERVE = Claim("100 MiB from the node to Kubo", _KUBO, "MiB/s", Goal.AT_LEAST, 0.85)
FETCH = Claim("100 MiB from Kubo to the node", _KUBO, "MiB/s", Goal.AT_LEAST, 0.55)
THREE = Claim("100 MiB from three Kubo nodes", "from one", "MiB/s", Goal.AT_LEAST, 1)
BITSWAP = Claim("100 MiB between two nodes, Bitswap alone", _KUBO, "MiB/s", Goal.AT_LEAST, 1)
OWN = Claim("100 MiB between two nodes", _KUBO, "MiB/s", Goal.AT_LEAST, 1)
CALLS = Claim("no-op calls to a node that moves 100 MiB, p99", "", "ms", Goal.AT_MOST, 50)
CLAIMS = (SERVE, FETCH, THREE, BITSWAP, OWN, CALLS)


@dataclass(frozen=True, slots=True)
class _Kubo:
    """A running daemon; `address` is its multiaddr."""

    binary: str
    environment: dict[str, str]
    address: str

    def run(self, *words: str) -> str:
        command = [self.binary, *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotMeasure(f"ipfs {words[0]} failed: {done.stderr.strip()[-200:]}")
        return done.stdout.strip()

    def pin(self, cid: str) -> float:
        """Seconds that it takes to bring the content here."""
        start = time.perf_counter()
        self.run("pin", "add", "--progress=false", cid)
        return time.perf_counter() - start


def measure(folder: Path, *, quick: bool) -> Iterator[Finding]:
    """Raises CannotMeasure where Kubo or libp2p is missing."""
    binary = os.environ.get("BACALHAU_KUBO") or shutil.which("ipfs")
    if not binary:
        raise CannotMeasure("Kubo is missing; set BACALHAU_KUBO to the path of its ipfs command")
    findings = {claim: Finding(claim) for claim in CLAIMS}
    for number in range(2 if quick else 5):
        place = folder / f"exchange-{number}"
        place.mkdir()
        asyncio.run(_Round(binary, place, 32 if quick else 100).measure(findings))
        shutil.rmtree(place)
    yield from findings.values()


async def _with_calls(node: Node, work: Awaitable[float]) -> tuple[float, float]:
    """What the work gives, and how long the slowest but one in a hundred of the calls meanwhile took, in ms. One is due
    every five milliseconds, whether those before it have their answers or not, so that a stall counts for as many calls
    as it holds up."""
    taken: list[float] = []

    async def call(client: Client) -> None:
        start = time.perf_counter()
        await client.call()
        taken.append((time.perf_counter() - start) * 1000)

    async with Client(node) as client, asyncio.TaskGroup() as calls:
        await client.call()
        working = asyncio.ensure_future(work)
        while not working.done():
            calls.create_task(call(client))
            await asyncio.sleep(_CALL_INTERVAL_S)
    return working.result(), sorted(taken)[len(taken) * 99 // 100]


class _Round:
    """Four Kubo daemons and two nodes, all with empty stores."""

    def __init__(self, binary: str, place: Path, mebibytes: int) -> None:
        self._binary = binary
        self._place = place
        self._mebibytes = mebibytes
        self._files = 0

    async def measure(self, findings: dict[Claim, Finding]) -> None:
        with ExitStack() as stack:
            kubos = [stack.enter_context(self._kubo(f"kubo-{number}")) for number in range(4)]
            listen = ("--p2p-listen", "/ip4/127.0.0.1/tcp/0")
            joined = [word for kubo in kubos[:3] for word in ("--peer", kubo.address)]
            node = stack.enter_context(running_node(self._place / "node", *listen, *joined))
            multiaddr = _multiaddr(node, self._place / "node")
            friend = stack.enter_context(
                running_node(self._place / "friend", "--no-p2p", "--peer", node.peer_address)
            )
            kubos[3].run("swarm", "connect", kubos[0].address)
            kubos[3].run("swarm", "connect", multiaddr)
            own = await self._transfer_rate(friend, self._add(node))
            yardstick = self._rate(kubos[3].pin(self._add_to(kubos[:1])))
            serve = self._rate(kubos[3].pin(self._add(node)))
            fetched = self._add_to(kubos[:1])
            fetch, fetching_ms = await _with_calls(node, self._transfer_rate(node, fetched))
            served = self._add(node)
            _, serving_ms = await _with_calls(node, asyncio.to_thread(kubos[3].pin, served))
            yardstick_after = self._rate(kubos[3].pin(self._add_to(kubos[:1])))
            one = await self._transfer_rate(node, self._add_to(kubos[:1]))
            three = await self._transfer_rate(node, self._add_to(kubos[:3]))
            swapped = self._swap_rate()
        both = (yardstick + yardstick_after) / 2
        for claim, ours, theirs in (
            (SERVE, serve, both),
            (FETCH, fetch, both),
            (THREE, three, one),
            (BITSWAP, swapped, both),
            (OWN, own, both),
        ):
            findings[claim].rounds.append(Round(ours, theirs))
        findings[CALLS].rounds.append(Round(max(fetching_ms, serving_ms)))

    def _rate(self, seconds: float) -> float:
        return self._mebibytes / seconds

    async def _transfer_rate(self, node: Node, cid: str) -> float:
        os.sync()
        async with grpc.aio.insecure_channel(node.api_address) as channel:
            start = time.perf_counter()
            await ipfs_service_pb2_grpc.IpfsServiceStub(channel).Pin(ipfs_service_pb2.PinRequest(cid=cid))
            return self._rate(time.perf_counter() - start)

    def _swap_rate(self) -> float:
        """Between two processes that have nothing but libp2p and a store."""
        command = [sys.executable, str(_SWAPPER)]
        serve = [*command, "serve", str(self._place / "served"), str(self._file())]
        with subprocess.Popen(serve, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                address, _, cid = server.stdout.readline().strip().partition(" ")
                fetch = [*command, "fetch", str(self._place / "fetched"), address, cid]
                done = subprocess.run(fetch, env=ENVIRONMENT, capture_output=True, text=True, check=False)
            finally:
                server.kill()
        if done.returncode:
            raise CannotMeasure(f"fetching failed: {done.stderr.strip()[-200:]}")
        return self._rate(float(done.stdout))

    def _file(self) -> Path:
        self._files += 1
        path = self._place / f"file-{self._files}"
        with path.open("wb") as out:
            for _ in range(self._mebibytes):
                out.write(os.urandom(_MIB))
        return path

    def _add(self, node: Node) -> str:
        return run_command(node, "ipfs", "add", "-Q", str(self._file()))

    def _add_to(self, kubos: list[_Kubo]) -> str:
        path = str(self._file())
        return [kubo.run("add", "-Q", path) for kubo in kubos][-1]

    @contextmanager
    def _kubo(self, name: str) -> Iterator[_Kubo]:
        environment = ENVIRONMENT | {"IPFS_PATH": str(self._place / name)}
        log = self._place / f"{name}.log"
        kubo = _Kubo(self._binary, environment, "")
        kubo.run("init", "--profile=test")
        kubo.run("config", "--json", "Swarm.DisableNatPortMap", "true")
        with log.open("wb") as output:
            daemon = subprocess.Popen(
                [self._binary, "daemon"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            deadline = time.monotonic() + _START_S
            while "Daemon is ready" not in log.read_text(errors="replace"):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise CannotMeasure(f"Kubo's daemon did not start: {last_line(log)}")
                time.sleep(0.05)
            known = json.loads(kubo.run("id"))["Addresses"]
            address = next(found for found in known if found.startswith("/ip4/127.0.0.1/tcp/"))
            yield _Kubo(self._binary, environment, address)
        finally:
            stop(daemon)


def _multiaddr(node: Node, folder: Path) -> str:
    said = json.loads((folder / "ready.json").read_text())["p2p_addresses"]
    if not said:
        raise CannotMeasure(f"libp2p does not run in node {node.node_id}: is the extra p2p installed?")
    return str(said[0])

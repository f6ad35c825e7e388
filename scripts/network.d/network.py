"""`scripts/network`: nodes in network namespaces, on bridges that stand in a namespace too.

Owns namespaces, links and addresses; the nodes are those of `bacalhau devstack`. Nothing is added to the machine's
own network: all of it is inside the namespaces, so that their removal removes it.

    <net>-switch    bridge "west", bridge "east"; between them the link "islands" = "islands-east"
    <net>-node-0    eth0 10.77.0.1/24, whose other end is "node-0" on one of the bridges
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from bacalhau.cli.failures import UsageFailure
from bacalhau.cli.main import parser
from bacalhau.cli.serve import check_devstack
from bacalhau.node import devstack

if TYPE_CHECKING:
    import argparse

TOPOLOGIES: Final = ("star", "line", "two-islands")
PREFIX: Final = "bacalhau-"
SUBNET: Final = "10.77.0"
API_PORT, PEER_PORT = 1234, 1235
WEST, EAST = "west", "east"


def ip(*words: str) -> str:
    """One command of iproute2; what it prints. Raises CalledProcessError."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def namespaces() -> list[str]:
    """Those of networks of this script, whether these still run or not."""
    names = [line.split()[0] for line in ip("netns", "list").splitlines() if line]
    return [name for name in names if name.startswith(PREFIX)]


class Topology:
    """The namespaces of one network, whose names hold the process id of its script."""

    def __init__(self, kind: str, count: int) -> None:
        self.kind = kind
        self._count = count
        self._net = f"{PREFIX}{os.getpid()}"
        self.switch = f"{self._net}-switch"

    def name(self, number: int) -> str:
        return f"{self._net}-node-{number}"

    def address(self, number: int) -> str:
        return f"{SUBNET}.{number + 1}"

    def island(self, number: int) -> str:
        """Which bridge a node is on."""
        return EAST if self.kind == "two-islands" and number >= (self._count + 1) // 2 else WEST

    def build(self) -> None:
        ip("netns", "add", self.switch)
        for bridge in (WEST, EAST) if self.kind == "two-islands" else (WEST,):
            # Without the spanning tree a port forwards as soon as it is up.
            ip(
                "-n",
                self.switch,
                "link",
                "add",
                bridge,
                "type",
                "bridge",
                "stp_state",
                "0",
                "forward_delay",
                "0",
            )
            ip("-n", self.switch, "link", "set", bridge, "up")
        if self.kind == "two-islands":
            ip("-n", self.switch, "link", "add", "islands", "type", "veth", "peer", "name", "islands-east")
            for end, bridge in (("islands", WEST), ("islands-east", EAST)):
                ip("-n", self.switch, "link", "set", end, "master", bridge, "up")
        for number in range(self._count):
            self._attach(number)

    def _attach(self, number: int) -> None:
        name, port = self.name(number), f"node-{number}"
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", name, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", self.switch, "link", "set", port, "master", self.island(number), "up")

    def remove(self) -> None:
        for name in namespaces():
            if name.startswith(f"{self._net}-"):
                ip("netns", "delete", name)


class Network(devstack.Network):
    """The network of a devstack, in a topology. `serve_flags` go to each node."""

    def __init__(
        self, args: argparse.Namespace, folder: Path, topology: Topology, serve_flags: list[str]
    ) -> None:
        super().__init__(args, folder)
        self._topology = topology
        self._serve_flags = serve_flags

    def within(self, number: int) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self._topology.name(number))

    def flags(self, number: int) -> list[str]:
        topology = self._topology
        words = ["--api-port", str(API_PORT), "--peer-host", topology.address(number)]
        words += ["--peer-port", str(PEER_PORT), "--labels", f"island={topology.island(number)}"]
        if number:
            joined = number - 1 if topology.kind == "line" else 0
            words += ["--peer", f"{topology.address(joined)}:{PEER_PORT}"]
        return words + self._serve_flags

    def advice(self) -> list[str]:
        topology = self._topology
        enter = " ".join(self.within(0))
        lines = [
            "To use it from another terminal, from inside the namespace of a node:",
            f"  {enter} {sys.executable} -m bacalhau node list",
            "To cut a node off, and to let it back (node-0 and so on):",
            f"  ip -n {topology.switch} link set node-0 down",
            f"  ip -n {topology.switch} link set node-0 up",
        ]
        if topology.kind == "two-islands":
            lines += [
                f"To cut the islands apart ({WEST}: the first half of the nodes), and to join them:",
                f"  ip -n {topology.switch} link set islands down",
                f"  ip -n {topology.switch} link set islands up",
            ]
        return lines


def clean() -> int:
    """Removes namespaces whose script does not run any more."""
    for name in namespaces():
        owner = name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            ip("netns", "delete", name)
            print(f"removed {name}", file=sys.stderr)
    return 0


def main(words: list[str]) -> int:
    kinds = (*TOPOLOGIES, "clean")
    if not words or words[0] not in kinds:
        print(
            f"usage: scripts/network {'|'.join(kinds)} [FLAGS OF devstack] [-- FLAGS OF serve]",
            file=sys.stderr,
        )
        return 2
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("ip") is None:
        print("scripts/network: network namespaces need Linux, root, and iproute2", file=sys.stderr)
        return 2
    if words[0] == "clean":
        return clean()
    end = words.index("--") if "--" in words else len(words)
    args = parser().parse_args(["devstack", *words[1:end]])
    try:
        check_devstack(args)
    except UsageFailure as error:
        print(f"scripts/network: {error}", file=sys.stderr)
        return 2
    # Until the network takes over what is sent to this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    topology = Topology(words[0], args.nodes)
    try:
        topology.build()
        return devstack.run(args, lambda folder: Network(args, folder, topology, words[end + 1 :]))
    except subprocess.CalledProcessError as error:
        print(f"scripts/network: {' '.join(error.cmd)}: {error.stderr.strip()}", file=sys.stderr)
        return 1
    finally:
        topology.remove()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

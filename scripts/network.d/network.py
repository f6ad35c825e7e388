"""`scripts/network`: nodes in network namespaces, on bridges that stand in a namespace too.

Owns namespaces, links and addresses; the nodes are those of `bacalhau devstack`. Nothing is added to the machine's
own network: all of it is inside the namespaces, so that their removal removes it.

    <net>-switch    bridge "west", bridge "east"; between them the link "islands" = "islands-east"
    <net>-node-0    eth0 10.77.0.1/24, whose other end is "node-0" on one of the bridges
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

import platformdirs

from bacalhau.cli.failures import UsageFailure
from bacalhau.cli.main import parser
from bacalhau.cli.serve import check_devstack
from bacalhau.node import devstack

if TYPE_CHECKING:
    from collections.abc import Sequence

TOPOLOGIES: Final = ("star", "line", "two-islands")
PREFIX: Final = "bacalhau-"
SUBNET: Final = "10.77.0"
API_PORT, PEER_PORT = 1234, 1235
BEHIND_PORT: Final = 1236
"""Of the peer API, where a proxy listens in its place."""
TOXIPROXY: Final = "v2.5.0"
START_S: Final = 10.0
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


def toxiproxy_folder() -> Path:
    """Where Toxiproxy's `server` and `cli` are, or will be."""
    cache = Path(platformdirs.user_cache_dir("bacalhau"), f"toxiproxy-{TOXIPROXY}")
    return Path(os.environ.get("BACALHAU_TOXIPROXY") or cache)


class Delay:
    """A proxy before each node, which lets what is sent to the node arrive `delay_ms` later. It is Toxiproxy: the
    kernels of many machines have no netem."""

    def __init__(self, topology: Topology, delay_ms: int) -> None:
        self._topology = topology
        self._delay_ms = delay_ms
        self._servers: list[subprocess.Popen[bytes]] = []
        self.folder = toxiproxy_folder()

    def build(self) -> None:
        """Once a machine. Raises CalledProcessError."""
        if all((self.folder / name).exists() for name in ("server", "cli")):
            return
        module = "github.com/Shopify/toxiproxy/v2/cmd"
        print(f"building Toxiproxy {TOXIPROXY}, which takes a while", file=sys.stderr)
        command = ["go", "install", *(f"{module}/{name}@{TOXIPROXY}" for name in ("server", "cli"))]
        environment = {**os.environ, "GOBIN": str(self.folder), "GOFLAGS": "-mod=mod"}
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd="/")

    def start(self, count: int) -> None:
        for number in range(count):
            enter = ("ip", "netns", "exec", self._topology.name(number))
            server = subprocess.Popen(
                [*enter, self.folder / "server"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for this process, which ends it after its node
            )
            self._servers.append(server)
            cli = (*enter, str(self.folder / "cli"))
            listen = f"{self._topology.address(number)}:{PEER_PORT}"
            self._until_there(server, (*cli, "list"))
            subprocess.run(
                [*cli, "create", "--listen", listen, "--upstream", f"127.0.0.1:{BEHIND_PORT}", "peer"],
                check=True,
                capture_output=True,
                text=True,
            )
            self.toxic(cli, "latency", f"latency={self._delay_ms}")

    def toxic(self, cli: Sequence[str], kind: str, attribute: str) -> None:
        subprocess.run(
            [*cli, "toxic", "add", "--upstream", "--type", kind, "--attribute", attribute, "peer"],
            check=True,
            capture_output=True,
            text=True,
        )

    def _until_there(self, server: subprocess.Popen[bytes], asking: Sequence[str]) -> None:
        deadline = time.monotonic() + START_S
        while subprocess.run(asking, capture_output=True, check=False).returncode != 0:
            if server.poll() is not None or time.monotonic() > deadline:
                raise subprocess.CalledProcessError(
                    server.poll() or 1, "toxiproxy", stderr="it does not start"
                )
            time.sleep(0.05)

    def end(self) -> None:
        for server in self._servers:
            server.terminate()
            server.wait()


class Network(devstack.Network):
    """The network of a devstack, in a topology. `serve_flags` go to each node."""

    def __init__(
        self,
        args: argparse.Namespace,
        folder: Path,
        topology: Topology,
        delay: Delay | None,
        serve_flags: list[str],
    ) -> None:
        super().__init__(args, folder)
        self._topology = topology
        self._delay = delay
        self._serve_flags = serve_flags

    def within(self, number: int) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self._topology.name(number))

    def flags(self, number: int) -> list[str]:
        topology = self._topology
        words = ["--api-port", str(API_PORT), "--labels", f"island={topology.island(number)}"]
        address = topology.address(number)
        if self._delay is None:
            words += ["--peer-host", address, "--peer-port", str(PEER_PORT)]
        else:
            # libp2p would go round the proxy.
            words += ["--peer-port", str(BEHIND_PORT), "--advertise", f"{address}:{PEER_PORT}", "--no-p2p"]
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
        if self._delay is not None:
            cli = f"{enter} {self._delay.folder}/cli"
            lines += [
                "To do more to what is sent to a node (see `toxiproxy-cli toxic`):",
                f"  {cli} toxic add --upstream --type bandwidth --attribute rate=100 peer",
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
            for pid in ip(
                "netns", "pids", name
            ).split():  # its nodes have ended with it, its proxies have not
                os.kill(int(pid), signal.SIGTERM)
            ip("netns", "delete", name)
            print(f"removed {name}", file=sys.stderr)
    return 0


def arguments(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What is asked for, with the flags of a devstack; and those that go to each node."""
    end = words.index("--") if "--" in words else len(words)
    own = argparse.ArgumentParser(
        prog="scripts/network",
        usage="%(prog)s TOPOLOGY|clean [--delay MS] [FLAGS OF devstack] [-- FLAGS OF serve]",
        add_help=False,
        allow_abbrev=False,
    )
    own.add_argument("topology", choices=(*TOPOLOGIES, "clean"))
    own.add_argument("--delay", type=int, default=0, metavar="MS")
    asked, rest = own.parse_known_args(words[:end])
    args = parser().parse_args(["devstack", *rest], asked)
    check_devstack(args)
    return args, words[end + 1 :]


def main(words: list[str]) -> int:
    try:
        args, serve_flags = arguments(words)
    except UsageFailure as error:
        print(f"scripts/network: {error}", file=sys.stderr)
        return 2
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("ip") is None:
        print("scripts/network: network namespaces need Linux, root, and iproute2", file=sys.stderr)
        return 2
    if args.topology == "clean":
        return clean()
    # Until the network takes over what is sent to this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    topology = Topology(args.topology, args.nodes)
    delay = Delay(topology, args.delay) if args.delay else None
    try:
        if delay is not None:
            delay.build()
        topology.build()
        if delay is not None:
            delay.start(args.nodes)
        return devstack.run(args, lambda folder: Network(args, folder, topology, delay, serve_flags))
    except FileNotFoundError as error:
        print(
            f"scripts/network: {error.filename} is missing: --delay needs Go, to build Toxiproxy",
            file=sys.stderr,
        )
        return 1
    except subprocess.CalledProcessError as error:
        print(f"scripts/network: {error.cmd}: {error.stderr.strip()}", file=sys.stderr)
        return 1
    finally:
        if delay is not None:
            delay.end()
        topology.remove()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

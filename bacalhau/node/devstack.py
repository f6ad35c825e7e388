"""`bacalhau devstack`: a network of nodes on this machine, each a process with its own data folder, until it is ended.

Owns the processes. Each is a plain `bacalhau serve`, so that what works here works between machines. The first one
is started alone, the others join it; when one dies the others are ended too, for half a network only misleads.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_EXIT_FAILED = 125
_POLL_S = 0.05
_START_S = 60.0
_JOIN_S = 15.0
_STOP_S = 15.0
_TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1


class _NodeDied(Exception):
    """A node ended without being told to; the message says which, and what it said last."""


class _Ended(Exception):
    """The user ends the network while it still starts."""


@dataclass(slots=True)
class Member:
    """A node of the network. `ready` is what its ready file says: node_id, api_address, peer_address, ….
    `misbehaves` names what a bad one does, and is empty for the others."""

    number: int
    name: str
    folder: Path
    log: Path
    process: asyncio.subprocess.Process
    misbehaves: str
    ready: dict[str, str]


def run(args: argparse.Namespace, make: Callable[[Path], Network] | None = None) -> int:
    """Runs the network by the flags of `bacalhau devstack`, or the one that `make` makes of the folder for its data;
    the exit code: 0 when the user ended it, 125 when it could not start or a node died. Says on stderr how to talk to
    each node."""
    with ExitStack() as stack:
        if args.data_dir is None:
            # The nodes may still be writing for a moment where one had to be killed.
            temporary = tempfile.TemporaryDirectory(prefix="bacalhau-devstack-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(temporary))
        else:
            folder = Path(args.data_dir).expanduser().absolute()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        network = Network(args, folder) if make is None else make(folder)
        return asyncio.run(network.run())


class Network:
    """Nodes by the flags of `bacalhau devstack`. What a network elsewhere than on this machine's own interfaces does
    otherwise (`scripts/network`) is in `within`, `flags` and `advice`."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self._args = args
        self._folder = folder
        self.members: list[Member] = []
        """Those that were started, by their number."""
        self._told = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._told.set)
        try:
            await self._start()
            self._announce()
            await self._watch()
        except _Ended:
            pass
        except _NodeDied as death:
            print(f"bacalhau: {death}", file=sys.stderr)
            return _EXIT_FAILED
        finally:
            print("stopping the network", file=sys.stderr, flush=True)
            await self._end()
        return 0

    def within(self, number: int) -> tuple[str, ...]:
        """What a command that is about this node begins with."""
        return ()

    def flags(self, number: int) -> list[str]:
        """Where it listens, and whom it joins: all join the first, which is ready by then."""
        words = ["--api-port", str(self._args.api_port if number == 0 else 0), "--peer-port", "0"]
        return words if number == 0 else [*words, "--peer", self.members[0].ready["peer_address"]]

    def advice(self) -> list[str]:
        """How to use it."""
        host, _, port = self.members[0].ready["api_address"].rpartition(":")
        return [
            "To use it from another terminal:",
            f"  export BACALHAU_API_HOST={host} BACALHAU_API_PORT={port}",
            "  bacalhau node list",
        ]

    async def _start(self) -> None:
        first = await self._spawn(0)
        await self._until_ready(first)
        others = [await self._spawn(number) for number in range(1, self._args.nodes)]
        for member in others:
            await self._until_ready(member)
        await self._until_joined(first)

    async def _spawn(self, number: int) -> Member:
        name = f"node-{number}"
        folder, log = self._folder / name, self._folder / f"{name}.log"
        ready_file = self._folder / f"{name}.ready"
        ready_file.unlink(missing_ok=True)
        words = [
            "--data-dir",
            str(folder),
            "--ready-file",
            str(ready_file),
            "--log-level",
            self._args.log_level,
        ]
        words += [*self.flags(number), *_policy(self._args)]
        misbehaves = ""
        if number >= self._args.nodes - self._args.bad_nodes:
            misbehaves = self._args.misbehave or "wrong-result"
            words += ["--misbehave", misbehaves]
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(*self.within(number), sys.executable, "-m", "bacalhau", "serve", *words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # Ctrl-C in the terminal is for this process, which ends them in order
                preexec_fn=_dies_with(os.getpid()),
            )
        member = Member(number, name, folder, log, process, misbehaves, {})
        self.members.append(member)
        return member

    async def _until_ready(self, member: Member) -> None:
        """Waits for the ready file. Raises _NodeDied, _Ended."""
        path = self._folder / f"{member.name}.ready"
        try:
            async with asyncio.timeout(_START_S):
                while not path.exists():
                    self._check_alive()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise _NodeDied(
                f"{member.name} was not ready within {_START_S:g} seconds{_tail(member.log)}"
            ) from None
        member.ready = json.loads(path.read_text(encoding="utf-8"))

    async def _until_joined(self, first: Member) -> None:
        """Waits until the first node has heard of all, so that a job is offered to all from the first one on."""
        port = first.ready["api_address"].rpartition(":")[2]
        command = (
            *self.within(first.number),
            sys.executable,
            "-m",
            "bacalhau",
            "node",
            "list",
            "--output",
            "json",
            "--api-host",
            "127.0.0.1",
        )
        deadline = asyncio.get_running_loop().time() + _JOIN_S
        while asyncio.get_running_loop().time() < deadline:
            self._check_alive()
            asking = await asyncio.create_subprocess_exec(
                *command,
                "--api-port",
                port,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            answer, _ = await asking.communicate()
            if asking.returncode == 0 and len(json.loads(answer)) >= len(self.members):
                return
            await asyncio.sleep(_POLL_S)
        print(
            f"not every node has joined within {_JOIN_S:g} seconds: see {self._folder}/*.log", file=sys.stderr
        )

    def _check_alive(self) -> None:
        if self._told.is_set():
            raise _Ended
        for member in self.members:
            if member.process.returncode is not None:
                raise _died(member)

    def _announce(self) -> None:
        lines = [f"a network of {len(self.members)} nodes runs; data and logs: {self._folder}"]
        for member in self.members:
            ready = member.ready
            lines.append(f"  {member.name}  clients: {ready['api_address']}  nodes: {ready['peer_address']}")
            bad = f"  misbehaves on purpose: {member.misbehaves}" if member.misbehaves else ""
            lines.append(f"          {ready['node_id']}{bad}")
        lines += [*self.advice(), "Ctrl-C ends it."]
        print("\n".join(lines), file=sys.stderr, flush=True)
        if self._args.ready_file is not None:
            nodes = [
                {"name": m.name, "data_dir": str(m.folder), "misbehaves": m.misbehaves, **m.ready}
                for m in self.members
            ]
            target = Path(self._args.ready_file).expanduser().absolute()
            partial = target.with_name(target.name + ".partial")
            partial.write_text(json.dumps({"nodes": nodes}), encoding="utf-8")
            partial.rename(target)

    async def _watch(self) -> None:
        """Until the user ends it. Raises _NodeDied."""
        told = asyncio.ensure_future(self._told.wait())
        ends = {asyncio.ensure_future(member.process.wait()): member for member in self.members}
        done, waiting = await asyncio.wait({told, *ends}, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if told not in done:
            raise _died(next(member for end, member in ends.items() if end in done))

    async def _end(self) -> None:
        """Ends every process, gently first; what their containers still do is ended where their data goes away."""
        running = [member.process for member in self.members if member.process.returncode is None]
        for process in running:
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await asyncio.gather(*(process.wait() for process in running))
        except TimeoutError:
            for process in running:
                if process.returncode is None:
                    process.kill()
            await asyncio.gather(*(process.wait() for process in running))
        if self._args.data_dir is None and "docker" not in self._args.disable_engine:
            await self._remove_containers()

    async def _remove_containers(self) -> None:
        """Containers outlive their node, to be found again by its next life: these nodes have none."""
        from bacalhau.runtime.docker import DockerExecutor
        from bacalhau.runtime.executor import EngineFault

        for member in self.members:
            if not member.ready:
                continue
            executor = DockerExecutor(member.ready["node_id"])
            try:
                if (await executor.status()).available:
                    await executor.reap(())
            except EngineFault as fault:
                print(f"containers of {member.name} may be left: {fault}", file=sys.stderr)
            finally:
                await executor.close()


_ANY_CREDIT = "1000000000"  # a thousand million credits


def _policy(args: argparse.Namespace) -> list[str]:
    """The flags that every node is started with, as they were given."""
    words = ["--node-type", ",".join(args.node_type), "--job-selection-data-locality", args.data_locality]
    # They are all their user's own: none is a stranger to another.
    words += ["--credit-limit", _ANY_CREDIT, "--credit-unproven", _ANY_CREDIT]
    for flag, values in (
        ("--labels", [f"{key}={value}" for key, value in args.labels.items()]),
        ("--allow-image", args.allow_image),
        ("--disable-engine", args.disable_engine),
        ("--job-selection-probe-exec", [args.probe_exec] if args.probe_exec else []),
    ):
        words += [f"{flag}={value}" for value in values]
    words += ["--accept-networked"] if args.accept_networked else []
    words += ["--reject-stateless"] if args.reject_stateless else []
    return words


def _dies_with(parent: int) -> Callable[[], None] | None:
    """Lets the kernel end a child when this process dies, also by SIGKILL: called between fork and exec. Only Linux
    has it; elsewhere a killed devstack leaves its nodes running."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    prctl: Any = ctypes.CDLL(None, use_errno=True).prctl

    def set_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal


def _died(member: Member) -> _NodeDied:
    code = member.process.returncode
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
    return _NodeDied(f"{member.name} {how}; the network is ended{_tail(member.log)}")


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    except OSError:
        return ""
    return "".join(f"\n  {line}" for line in lines)

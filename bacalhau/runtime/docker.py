"""The Docker executor: the port's methods over containers, each of which lives in a thread.

Owns what is concurrent: how many containers start at a time, limits while they run, cancelling, and removing
them when their outcome is known. One container is `docker_container`, images are `docker_images`.

After `close()`, `run()` and `resume()` that have not returned are cancelled, and their containers go on: a
node that ends calls it before it cancels anything, for cancelling a run stops its container."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bacalhau.background import Background
from bacalhau.model.execution import Fault, FaultKind
from bacalhau.model.job import Engine
from bacalhau.runtime.docker_container import Container, ImageGone
from bacalhau.runtime.docker_engine import DockerEngine, call_in_thread
from bacalhau.runtime.docker_images import Images
from bacalhau.runtime.docker_request import EXECUTION_LABEL, NODE_LABEL, docker_task
from bacalhau.runtime.executor import EngineFault
from bacalhau.runtime.limits import DEFAULT_OUTPUT_LIMIT_BYTES, disk_exceeded, timeout_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from bacalhau.runtime.executor import EngineStatus, Outcome, Progress, Run

DEFAULT_PIDS_LIMIT: Final = 1024
# Starting is the engine's slow part, and more at a time make none of them faster.
DEFAULT_STARTS_AT_ONCE: Final = 4
_REMOVING_S: Final = 10.0
_STOPPING_S: Final = 30.0
_AGAIN_S: Final = 1.0


class DockerExecutor:
    """Runs Docker tasks for the node `node_id` (its containers carry it as a label) on one engine.

    `host` is "unix:///…" or "tcp://…"; empty: DOCKER_HOST, else the default socket. Of stdout and of stderr
    `output_limit_bytes` are kept.
    """

    engine = Engine.DOCKER

    def __init__(
        self,
        node_id: str,
        *,
        host: str = "",
        output_limit_bytes: int = DEFAULT_OUTPUT_LIMIT_BYTES,
        pids_limit: int = DEFAULT_PIDS_LIMIT,
        starts_at_once: int = DEFAULT_STARTS_AT_ONCE,
    ) -> None:
        self._node_id = node_id
        self._engine = DockerEngine(host)
        self._images = Images(self._engine)
        self._output_limit_bytes = output_limit_bytes
        self._pids_limit = pids_limit
        self._turns = asyncio.Semaphore(starts_at_once)
        """Of starts and removals, first come, first served: where many jobs came at once, cleaning up after the first
        holds up none of the others."""
        self._active: dict[str, Container] = {}  # by name, until removed
        self._works: dict[Container, asyncio.Task[Outcome]] = {}
        self._removals = Background()
        self._closed = False

    async def status(self) -> EngineStatus:
        return await call_in_thread(self._engine.status)

    async def prepare(self, run: Run, progress: Progress) -> None:
        await self._images.ensure(docker_task(run).image, progress)

    async def run(self, run: Run) -> Outcome:
        try:
            return await self._run(run)
        except ImageGone:  # since `prepare`: once more from there
            self._images.forget(docker_task(run).image)
        await self.prepare(run, lambda done_bytes, total_bytes: None)
        try:
            return await self._run(run)
        except ImageGone as error:
            image = docker_task(run).image
            message = f"the image {image} vanishes from this node as soon as it is there; try again"
            raise EngineFault(Fault(FaultKind.IMAGE_UNAVAILABLE, message)) from error

    async def _run(self, run: Run) -> Outcome:
        container = self._container(run)
        return await self._supervise(container, self._start_and_follow(container))

    async def resume(self, run: Run) -> Outcome | None:
        container = self._container(run)
        if not await call_in_thread(container.find):
            return None
        return await self._supervise(container, self._limited(container, container.follow_again))

    async def reap(self, keep: Collection[str]) -> list[str]:
        return await call_in_thread(self._reap, frozenset(keep))

    async def close(self) -> None:
        """Let go of running containers, and finish removing those that have ended."""
        self._closed = True
        self._images.abandon_all()
        for container, work in tuple(self._works.items()):
            container.release()
            work.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_REMOVING_S):
                await self._removals.ended()
        await call_in_thread(self._engine.close)

    def _container(self, run: Run) -> Container:
        if self._closed:
            raise EngineFault(Fault(FaultKind.ENGINE_FAILED, "this node is ending; it starts nothing more"))
        return Container(
            self._engine,
            self._node_id,
            run,
            output_limit_bytes=self._output_limit_bytes,
            pids_limit=self._pids_limit,
        )

    async def _supervise(self, container: Container, coroutine: Coroutine[None, None, Outcome]) -> Outcome:
        """Await the outcome. However that ends, the container is stopped and removed, unless `close` released
        it.
        """
        self._active[container.name] = container
        work = self._works[container] = asyncio.create_task(coroutine)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not container.released:
                await self._stop(container, work)
            raise
        finally:
            del self._works[container]
            if container.released:
                del self._active[container.name]
            else:
                self._remove_in_background(container)

    async def _start_and_follow(self, container: Container) -> Outcome:
        async with self._turns:
            container.queued = False
            await call_in_thread(container.start)
        return await self._limited(container, container.follow)

    async def _limited(self, container: Container, follow: Callable[[], Outcome]) -> Outcome:
        """Follow a started container to its end, and end it when it exceeds a limit."""
        container.queued = False
        limits = [
            asyncio.create_task(self._limit_time(container)),
            asyncio.create_task(self._limit_disk(container)),
        ]
        try:
            return await call_in_thread(follow)
        finally:
            for limit in limits:
                limit.cancel()

    async def _limit_time(self, container: Container) -> None:
        allowed_us = container.run.spec.timeouts.execution_us
        await asyncio.sleep(max(0, allowed_us - container.wall_us()) / 1_000_000)
        await self._end(container, timeout_fault(container.wall_us(), allowed_us))

    async def _limit_disk(self, container: Container) -> None:
        allowed_bytes = container.run.spec.resources.disk_bytes
        await self._end(container, await disk_exceeded(container.disk_used_bytes, allowed_bytes))

    async def _end(self, container: Container, fault: Fault | None) -> None:
        while not await call_in_thread(container.stop, fault):  # noqa: ASYNC110 - nothing tells when it would work
            await asyncio.sleep(_AGAIN_S)

    async def _stop(self, container: Container, work: asyncio.Task[Outcome]) -> None:
        """End a cancelled run: returns when its program has ended, or the engine has not managed that in
        time.
        """
        if container.queued:
            work.cancel()
        stopping = asyncio.create_task(self._end(container, None))
        deadline = asyncio.get_running_loop().time() + _STOPPING_S
        while not work.done() and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            with suppress(asyncio.CancelledError):  # cancelled again: the program must still end first
                await asyncio.wait({work}, timeout=left_s)
        stopping.cancel()
        if not work.done():
            work.cancel()
        elif not work.cancelled():
            work.exception()  # seen: a run that is cancelled has no other outcome

    def _remove_in_background(self, container: Container) -> None:
        async def remove() -> None:
            async with self._turns:
                await call_in_thread(container.remove)
            del self._active[container.name]

        self._removals.start(f"removing container {container.name}", remove())

    def _reap(self, keep: frozenset[str]) -> list[str]:
        from docker.errors import NotFound

        removed = []
        with self._engine.faults("remove containers of an earlier life"):
            api = self._engine.api()
            for found in api.containers(all=True, filters={"label": f"{NODE_LABEL}={self._node_id}"}):
                execution_id = found["Labels"].get(EXECUTION_LABEL, "")
                names = {name.removeprefix("/") for name in found["Names"]}
                # Asked after the listing: a container is among the active ones before it is created.
                if execution_id in keep or any(name in self._active for name in names):
                    continue
                with suppress(NotFound):  # it went by itself
                    api.remove_container(found["Id"], v=True, force=True)
                removed.append(execution_id)
        return removed

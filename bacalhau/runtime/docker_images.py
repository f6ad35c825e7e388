"""Images: whether they are here, and pulling those that are not, each once at a time.

Blocks are the registry's and the engine's; this only asks, adds up the progress of layers, and says what
failed."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any, Final

from bacalhau.model.execution import Fault, FaultKind
from bacalhau.runtime.docker_engine import call_in_thread, explanation
from bacalhau.runtime.executor import EngineFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.runtime.docker_engine import DockerEngine
    from bacalhau.runtime.executor import Progress

# An image that was here is taken to be here for this long; creating a container finds out when it is not.
_PRESENT_FOR_S: Final = 60.0
_NAME_LENGTH_MAX: Final = 512

# The grammar of github.com/distribution/reference: [host[:port]/]path[:tag][@digest]. Names come from
# strangers and become part of URLs.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE: Final = re.compile(
    rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,})?"
)


class Images:
    """The images of one engine."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self._present: dict[str, float] = {}  # name -> monotonic time at which it was seen
        self._pulls: dict[str, _Pull] = {}

    async def ensure(self, image: str, progress: Progress) -> None:
        """Pull `image` where it is not here. Raises EngineFault. Cancelling the last that waits ends the
        pull.
        """
        check_reference(image)
        seen_at = self._present.get(image)
        if seen_at is not None and time.monotonic() - seen_at < _PRESENT_FOR_S:
            return
        pull = self._pulls.get(image)
        if pull is None:
            if await call_in_thread(self._is_here, image):
                self._present[image] = time.monotonic()
                return
            pull = self._pulls.get(image) or self._begin(image)
        pull.listeners.append(progress)
        progress(*pull.progress)
        try:
            await asyncio.shield(pull.task)
        finally:
            pull.listeners.remove(progress)
            if not pull.listeners:
                pull.abandoned = True
                if self._pulls.get(image) is pull:
                    del self._pulls[image]

    def forget(self, image: str) -> None:
        """It turned out not to be here."""
        self._present.pop(image, None)

    def abandon_all(self) -> None:
        for pull in self._pulls.values():
            pull.abandoned = True

    def _begin(self, image: str) -> _Pull:
        pull = _Pull()
        pull.task = asyncio.create_task(call_in_thread(self._pull, image, pull))
        pull.task.add_done_callback(lambda task: self._ended(image, pull, task))
        self._pulls[image] = pull
        return pull

    def _ended(self, image: str, pull: _Pull, task: asyncio.Task[None]) -> None:
        if self._pulls.get(image) is pull:
            del self._pulls[image]
        # Reading the exception also says that it was seen, where nobody waits any more.
        if not task.cancelled() and task.exception() is None and not pull.abandoned:
            self._present[image] = time.monotonic()

    def _is_here(self, image: str) -> bool:
        from docker.errors import NotFound

        with self._engine.faults(f"look for the image {image}"):
            try:
                self._engine.api().inspect_image(image)  # type: ignore[no-untyped-call]
            except NotFound:
                return False
        return True

    def _pull(self, image: str, pull: _Pull) -> None:
        from docker.errors import APIError
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(image)
        with self._engine.faults(f"pull the image {image}"):
            try:
                lines = self._engine.api().pull(repository, tag=tag or "latest", stream=True, decode=True)
                for line in lines:
                    if pull.abandoned:
                        lines.close()  # the engine notices that nobody listens, and stops
                        return
                    if "error" in line:
                        raise _unavailable(image, " ".join(str(line["error"]).split()))
                    pull.note(line)
            except APIError as error:
                raise _unavailable(image, explanation(error)) from error


class _Pull:
    """A pull under way, with those that watch it. `listeners` is read in the pulling thread."""

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.listeners: list[Callable[[int, int], None]] = []
        self.abandoned = False
        self.progress = (0, 0)
        self._layers: dict[str, tuple[int, int]] = {}

    def note(self, line: dict[str, Any]) -> None:
        """Take in a line of progress; bytes of all layers are those known so far, as compressed."""
        detail = line.get("progressDetail") or {}
        layer = line.get("id")
        if layer is None:
            return
        match line.get("status"):
            case "Downloading" if detail.get("total"):
                self._layers[layer] = (int(detail["current"]), int(detail["total"]))
            case "Verifying Checksum" | "Download complete" | "Extracting" | "Pull complete":
                if layer in self._layers:
                    total = self._layers[layer][1]
                    self._layers[layer] = (total, total)
            case _:
                return
        counted = (
            sum(done for done, _ in self._layers.values()),
            sum(total for _, total in self._layers.values()),
        )
        if counted != self.progress:
            self.progress = counted
            for listener in tuple(self.listeners):
                listener(*counted)


def check_reference(image: str) -> None:
    """Refuse what is no image name. Raises EngineFault."""
    if len(image) > _NAME_LENGTH_MAX or not _REFERENCE.fullmatch(image):
        raise EngineFault(
            Fault(
                FaultKind.INVALID_TASK,
                f"{image[:80]!r} is no name of an image; write [registry/]name[:tag][@digest] in lower case",
            )
        )


def _unavailable(image: str, reason: str) -> EngineFault:
    return EngineFault(
        Fault(
            FaultKind.IMAGE_UNAVAILABLE,
            f"the image {image} is not on this node and could not be pulled: {reason}; check name and tag, "
            "and that its registry can be reached from here without a login",
        )
    )

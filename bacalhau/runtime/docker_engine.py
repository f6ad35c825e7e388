"""The connection to the Docker engine: whether one answers, its client, and its errors as faults.

The `docker` SDK is synchronous and takes 0.2 s to import: it is imported in the thread that first needs it,
and every call is made in a thread. Knows nothing of jobs."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bacalhau.model.execution import Fault, FaultKind
from bacalhau.runtime.executor import EngineFault, EngineStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker

DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
# Each running container holds one connection, and control calls come on top; more are made and dropped as
# needed.
_POOL_SIZE: Final = 32
# Silence of the engine during a control call, or of a registry during a pull.
CALL_TIMEOUT_S: Final = 120
_STATUS_TIMEOUT_S: Final = 5

_T = TypeVar("_T")


async def call_in_thread(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a blocking function in a thread of its own.

    Not asyncio.to_thread: a thread that follows a container lives as long as the container, so a pool would
    fill up, and its threads would hold the interpreter back at exit. Cancelling leaves the thread to end by
    itself."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def finish(result: _T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result: _T | None = None
        failed: BaseException | None = None
        try:
            result = function(*arguments)
        except BaseException as error:  # whatever it is, it belongs to the one who waits
            failed = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, result, failed)

    threading.Thread(target=work, name=f"docker-{function.__name__}", daemon=True).start()
    return await future


class DockerEngine:
    """One engine, by `host` ("unix:///…" or "tcp://…"; empty: DOCKER_HOST, else the default socket)."""

    def __init__(self, host: str = "") -> None:
        self.host = host or os.environ.get("DOCKER_HOST", "") or DEFAULT_HOST
        self._explicit = bool(host)
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None

    def api(self) -> docker.APIClient:
        """The client, connected at the first call. Raises EngineFault."""
        with self._lock:
            if self._client is None:
                self._client = self._connect(CALL_TIMEOUT_S)
            return self._client

    def _connect(self, timeout_s: int) -> docker.APIClient:
        message = self._unreachable()
        if message:
            raise EngineFault(Fault(FaultKind.ENGINE_FAILED, message))
        import docker
        from docker.errors import DockerException
        from docker.utils import kwargs_from_env

        settings: dict[str, Any] = {} if self._explicit else dict(kwargs_from_env())
        settings.setdefault("base_url", self.host)
        try:
            return docker.APIClient(
                timeout=timeout_s, num_pools=4, max_pool_size=_POOL_SIZE, **settings
            )  # asks for the engine's version
        except DockerException as error:
            raise self.fault(error, "connect") from error

    def _unreachable(self) -> str:
        """What keeps this process from the engine's socket, as a sentence; empty where nothing does."""
        path = self.host.removeprefix("unix://")
        if path == self.host:
            return ""  # not a local socket: connecting will tell
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        probe.settimeout(_STATUS_TIMEOUT_S)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return (
                f"there is no Docker engine at {path}; install one (on Debian: apt install docker.io) "
                "and start it (systemctl start docker), or set DOCKER_HOST to where it listens"
            )
        except PermissionError:
            return (
                f"this user may not use the Docker engine at {path}; add the user to the group that owns the "
                "socket (sudo usermod -aG docker $USER, then log in again)"
            )
        except OSError as error:
            return (
                f"the Docker engine at {path} is not running ({error.strerror or error}); "
                "start it (systemctl start docker)"
            )
        finally:
            probe.close()
        return ""

    def status(self) -> EngineStatus:
        """Asks the engine. Blocks, at most some seconds."""
        message = self._unreachable()
        if message:
            return EngineStatus(False, message=message)
        try:
            client = self._connect(_STATUS_TIMEOUT_S)
        except EngineFault as error:
            return EngineStatus(False, message=error.fault.message)
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        try:
            version = client.version()
        except (DockerException, RequestException) as error:
            return EngineStatus(False, message=self.fault(error, "say its version").fault.message)
        finally:
            client.close()
        if version.get("Os") != "linux":
            return EngineStatus(
                False,
                version.get("Version", ""),
                "the Docker engine does not run Linux containers; switch it",
            )
        return EngineStatus(True, version.get("Version", ""))

    @contextmanager
    def faults(self, doing: str) -> Iterator[None]:
        """Turns every error of the SDK and its transport into an EngineFault: "Docker could not <doing>"."""
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        try:
            yield
        except (DockerException, RequestException) as error:
            raise self.fault(error, doing) from error

    def fault(self, error: Exception, doing: str, kind: FaultKind = FaultKind.ENGINE_FAILED) -> EngineFault:
        """An error of the SDK as a fault of this `kind`; where the engine has gone, always ENGINE_FAILED."""
        from docker.errors import APIError

        if isinstance(error, APIError):
            return EngineFault(Fault(kind, f"Docker could not {doing}: {explanation(error)}"))
        gone = (
            self._unreachable() or f"the Docker engine at {self.host} does not answer ({error}); restart it"
        )
        return EngineFault(Fault(FaultKind.ENGINE_FAILED, gone))

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


def explanation(error: Any) -> str:
    """The engine's own words in an APIError, on one line."""
    return " ".join(str(error.explanation or error).split())

"""A Kubo node's RPC API, as far as a store needs it: blocks, whole DAGs as CAR, pins.

Owns the talking: one method a command, each within its time and size, each block checked against its CID. The
transport is the package `ipfs-api` (extra `kubo`), made to POST, for Kubo answers to nothing else. Its commands are
not used: it alters files that are added from a folder, and unpacks what it gets wherever the archive says.
All of it blocks: for threads. Any method but `parse_address` raises KuboUnavailable and KuboRefused.

Source: https://docs.ipfs.tech/reference/kubo/rpc/
"""

from __future__ import annotations

import io
import itertools
import json
import re
import socket
import threading
import weakref
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from bacalhau.ipfs.car import read_car, write_blocks
from bacalhau.ipfs.chunkfile import ChunkFile
from bacalhau.ipfs.dagpb import MAX_BLOCK_BYTES
from bacalhau.ipfs.errors import BlockNotFound, InvalidBlock, KuboError, KuboRefused, KuboUnavailable
from bacalhau.model.cid import Cid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bacalhau.ipfs.dagpb import Block

CONNECT_S: Final = 3.0
FIND_S: Final = 15.0
"""How long Kubo may look for one block in its network."""
ANSWER_S: Final = 30.0
"""How long an answer may take to come, or to go on."""
WRITE_S: Final = 120.0
"""The same where Kubo has to write: it syncs each block to its disk."""
GC_S: Final = 3600.0

_ANSWER_BYTES_MAX: Final = 1024 * 1024
_LINE_BYTES_MAX: Final = 64 * 1024
_PIECE_BYTES: Final = 256 * 1024
_PINS_MAX: Final = 1_000_000
_CONNECTIONS: Final = 32
_MULTIADDR: Final = re.compile(r"/(?:ip4|ip6|dns|dns4|dns6)/([^/]+)/tcp/([0-9]{1,5})(?:/(https?))?/?")


class InvalidAddress(ValueError):
    """The text names no RPC API; the message says how to write one."""


class PackageMissing(Exception):
    """The extra `kubo` is not installed; the message says how to install it."""


@dataclass(frozen=True, slots=True)
class KuboAddress:
    """Where the RPC API is. `shown` is it without a password."""

    origin: str
    port: int
    path: str
    shown: str


def parse_address(text: str) -> KuboAddress:
    """Read a URL (http://127.0.0.1:5001) or a multiaddr (/ip4/127.0.0.1/tcp/5001). Raises InvalidAddress."""
    wrong = InvalidAddress(
        f"{text!r} is no address of a Kubo node: write http://HOST:PORT or /ip4/HOST/tcp/PORT"
    )
    multiaddr = _MULTIADDR.fullmatch(text)
    if multiaddr is not None:
        host, port, scheme = multiaddr.groups()
        text = f"{scheme or 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        parts = urlsplit(text)
        port_number = parts.port or (443 if parts.scheme == "https" else 5001)
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise wrong
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    login = parts.netloc.rpartition("@")[0]
    path = parts.path.strip("/")
    shown = f"{parts.scheme}://{host}:{port_number}" + (f"/{path}" if path else "")
    origin = f"{parts.scheme}://{login + '@' if login else ''}{host}"
    return KuboAddress(origin, port_number, f"{path}/api/v0" if path else "api/v0", shown)


class KuboRpc:
    """A Kubo node by its RPC API. Raises PackageMissing, InvalidAddress."""

    def __init__(self, address: str) -> None:
        parsed = parse_address(address)
        self.name = f"the Kubo node at {parsed.shown}"
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._closed = threading.Event()
        self._http = _transport(parsed, self._connected)

    def close(self) -> None:
        """Breaks off what goes on, so that no thread waits for Kubo any more."""
        self._closed.set()
        for connection in list(self._sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._http._session.close()

    def version(self) -> str:
        """Whether it answers, and as what."""
        return str(self._json("/version", seconds=CONNECT_S).get("Version", ""))

    # --- blocks ---

    def block(self, cid: Cid, *, online: bool = False) -> bytes:
        """The block that Kubo has, or with `online` finds within FIND_S. Raises BlockNotFound, InvalidBlock."""
        options = {"timeout": f"{FIND_S:g}s"} if online else {"offline": "true"}
        try:
            answer = self._request("/block/get", cid, options)
        except KuboRefused as error:
            raise BlockNotFound(cid) from error
        block = self._read(answer, MAX_BLOCK_BYTES)
        if not cid.verify(block):
            raise InvalidBlock(f"{self.name} sent other bytes for {cid}")
        return block

    def block_size(self, cid: Cid) -> int:
        """The length of a block that Kubo has, in bytes. Raises BlockNotFound."""
        try:
            answer = self._json("/block/stat", cid, {"offline": "true"})
        except KuboRefused as error:
            raise BlockNotFound(cid) from error
        size = answer.get("Size")
        if not isinstance(size, int):
            raise KuboRefused(f"{self.name} does not say how large {cid} is")
        return size

    def import_blocks(self, blocks: Iterable[tuple[Cid, Block]]) -> None:
        """Stores blocks, all in one message: at most some megabytes. Kubo checks them, too."""
        car = b"".join(write_blocks([], blocks))
        options = {"pin-roots": "false", "allow-big-block": "true"}
        self._read(self._request("/dag/import", None, options, seconds=WRITE_S, car=car), _ANSWER_BYTES_MAX)

    def export(self, root: Cid, *, online: bool = False) -> KuboExport:
        """The blocks below `root` that Kubo has, or with `online` finds."""
        options = {} if online else {"offline": "true"}
        answer = self._request("/dag/export", root, options)
        return KuboExport(self._file(answer), answer)

    # --- pins ---

    def pin_name(self, cid: Cid) -> str | None:
        """The name of its recursive pin, "" for one without; None where there is no such pin."""
        try:
            answer = self._json("/pin/ls", cid, {"type": "recursive", "names": "true"})
        except KuboRefused:
            return None
        for found in answer.get("Keys", {}).values():
            return str(found.get("Name", ""))
        return None

    def pin(self, cid: Cid, name: str) -> bool:
        """Pins a whole DAG that Kubo has; whether it has it. A pin that is there gets the new name."""
        try:
            self._json("/pin/add", cid, {"offline": "true", "name": name}, seconds=WRITE_S)
        except KuboRefused:
            return False
        return True

    def unpin(self, cid: Cid) -> None:
        """Lets a DAG go, if it is pinned."""
        with suppress(KuboRefused):
            self._json("/pin/rm", cid, seconds=WRITE_S)

    def pins(self, name: str) -> set[Cid]:
        """The recursive pins of that name."""
        options = {"type": "recursive", "names": "true", "stream": "true", "name": name}
        found: set[Cid] = set()
        with closing(self._request("/pin/ls", None, options, seconds=WRITE_S)) as answer:
            for line in itertools.islice(self._lines(answer), _PINS_MAX):
                # Kubo gives all whose names contain this one.
                if line.get("Name") == name:
                    found.add(Cid.parse(str(line.get("Cid"))))
        return found

    def collect_garbage(self) -> int:
        """Has Kubo delete all that nobody has pinned there; the number of blocks."""
        count = 0
        with closing(self._request("/repo/gc", None, {}, seconds=GC_S)) as answer:
            for line in self._lines(answer):
                count += "Key" in line
        return count

    def repository_bytes(self) -> int:
        """What its blocks take on its disk."""
        return int(self._json("/repo/stat", None, {"size-only": "true"}).get("RepoSize", 0))

    # --- requests ---

    def _connected(self, connection: socket.socket) -> None:
        self._sockets.add(connection)
        if self._closed.is_set():  # between the look at all of them and now
            connection.shutdown(socket.SHUT_RDWR)

    def _request(
        self,
        command: str,
        cid: Cid | None,
        options: dict[str, str],
        *,
        seconds: float = ANSWER_S,
        car: bytes | None = None,
    ) -> Any:
        """The answer, open: an HTTPResponse of urllib3."""
        if self._closed.is_set():
            raise KuboUnavailable(f"{self.name} is not asked any more")
        arguments = [] if cid is None else [str(cid)]
        files = [] if car is None else [("file", ("blocks.car", car))]
        with self._answering():
            answer = self._http.request(
                command, args=arguments, files=files, opts=options, stream=True, timeout=(CONNECT_S, seconds)
            )
        if answer.status != HTTPStatus.OK:
            raise KuboRefused(f"{self.name} answers {command}: {self._message_of(answer)}")
        return answer

    def _message_of(self, answer: Any) -> str:
        text = self._read(answer, _LINE_BYTES_MAX)
        try:
            return str(json.loads(text)["Message"])
        except (ValueError, KeyError, TypeError):
            return f"{answer.status} {answer.reason}"

    def _json(
        self,
        command: str,
        cid: Cid | None = None,
        options: dict[str, str] | None = None,
        seconds: float = ANSWER_S,
    ) -> dict[str, Any]:
        answer = self._request(command, cid, options or {}, seconds=seconds)
        return self._object(self._read(answer, _ANSWER_BYTES_MAX))

    def _object(self, text: bytes) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except ValueError as error:
            raise KuboRefused(
                f"{self.name} sent what is no JSON: is this the RPC API of a Kubo node?"
            ) from error
        if not isinstance(found, dict):
            raise KuboRefused(f"{self.name} sent JSON that is no object: is this the RPC API of a Kubo node?")
        return found

    def _lines(self, answer: Any) -> Iterator[dict[str, Any]]:
        file = self._file(answer)
        while line := file.readline(_LINE_BYTES_MAX):
            yield self._object(line)

    def _read(self, answer: Any, max_bytes: int) -> bytes:
        """All of it, and the connection is free again."""
        with self._answering():
            data: bytes = answer.read(max_bytes + 1)
        if len(data) > max_bytes:
            answer.close()
            raise KuboRefused(f"{self.name} sent more than {max_bytes} bytes")
        answer.release_conn()
        return data

    def _file(self, answer: Any) -> io.BufferedReader:
        return io.BufferedReader(ChunkFile(self._pieces(answer)), _PIECE_BYTES)

    def _pieces(self, answer: Any) -> Iterator[bytes]:
        while True:
            with self._answering():
                piece: bytes = answer.read1(_PIECE_BYTES)
            if not piece:
                return
            yield piece

    def _answering(self) -> _Answering:
        return _Answering(self.name)


class KuboExport:
    """The blocks of a CAR that Kubo sends. To be read by one thread, and stopped by any."""

    def __init__(self, car: io.BufferedReader, answer: Any) -> None:
        self._car = car
        self._answer = answer

    def blocks(self) -> Iterator[tuple[Cid, bytes]]:
        """Each verified, parents first. Raises InvalidCar where Kubo breaks off."""
        try:
            yield from read_car(self._car)[1]
        finally:
            self._answer.close()

    def stop(self) -> None:
        """Whoever reads meets the end."""
        with suppress(OSError, ValueError, RuntimeError):
            self._answer.shutdown()


class _Answering:
    """Raises KuboUnavailable in place of what requests and urllib3 raise."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, KuboError):
            return
        import urllib3

        # What requests raises is an OSError, too.
        if isinstance(error, OSError | urllib3.exceptions.HTTPError):
            raise KuboUnavailable(f"{self._name} does not answer: {_why(error)}") from error


def _why(error: BaseException) -> str:
    """The reason behind what two libraries have wrapped."""
    chain = [error]
    while (behind := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(behind)
    for found in reversed(chain):
        if isinstance(found, TimeoutError):
            return "it takes too long"
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
    return str(chain[-1]) or type(chain[-1]).__name__


def _transport(address: KuboAddress, connected: Any) -> Any:
    """The package's HTTP client with a session that POSTs, takes no proxy from the environment, and tells of its
    sockets. Raises PackageMissing."""
    try:
        import ipfsApi.http
    except ImportError as error:
        raise PackageMissing(
            "--ipfs-api needs the package ipfs-api, which is not installed: pip install bacalhau[kubo]"
        ) from error
    import requests
    import requests.adapters
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Http(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            connected(self.sock)

    class Https(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            connected(self.sock)

    class HttpPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Http

    class HttpsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Https

    class PostSession(requests.Session):
        def request(self, method: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
            return super().request("POST", *args, **kwargs)

    adapter = requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS)
    adapter.poolmanager.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}
    session = PostSession()
    session.trust_env = False
    session.headers["Accept-Encoding"] = "identity"
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    client = ipfsApi.http.HTTPClient(address.origin, address.port, address.path, "json")
    client._session = session  # its own way to set one is for the length of a `with`
    return client

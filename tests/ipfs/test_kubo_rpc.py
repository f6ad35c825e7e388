"""Talking to Kubo: what it has and does not have, its pins; and a Kubo that lies, sends too much, or says nothing."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs import dagpb, kubo_rpc
from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.car import write_blocks
from bacalhau.ipfs.dag import find_missing, iter_dag
from bacalhau.ipfs.errors import (
    BlockNotFound,
    InvalidBlock,
    InvalidCar,
    KuboRefused,
    KuboUnavailable,
    NoPeerHas,
)
from bacalhau.ipfs.fetch import FetchLimit, FetchLimits, fetch_dag
from bacalhau.ipfs.importer import import_files, import_path, import_stream
from bacalhau.ipfs.kubo_rpc import InvalidAddress, KuboRpc, parse_address
from bacalhau.ipfs.kubo_store import KuboBlockStore, KuboSource
from bacalhau.model.cid import RAW, Cid
from tests.ipfs.conftest import make_tree, random_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.parts.kubo import KuboDaemon

    Serve = Callable[[dict[str, tuple[int, bytes]]], "_Answers"]

GOOD, BAD = b"good", b"evil"


# --- a real Kubo ---


async def test_a_dag_that_ipfs_add_made_is_fetched_whole_as_car(
    kubo_daemon: KuboDaemon, kubo_rpc: KuboRpc, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    make_tree(tmp_path / "tree")
    root = Cid.parse(
        kubo_daemon.run("add", "-rQ", "--hidden", "--pin=false", tmp_path / "tree").decode().strip()
    )
    store = MemoryBlockStore()
    fetched = await fetch_dag(root, store, [KuboSource(kubo_rpc, threads, online=False)])
    assert find_missing(store, root) is None
    assert root == import_path(MemoryBlockStore(), tmp_path / "tree").cid
    assert fetched.blocks == len(list(store.keys()))


async def test_a_dag_of_which_kubo_lacks_a_part_gives_what_is_there(
    kubo_rpc: KuboRpc, threads: ThreadPoolExecutor
) -> None:
    whole = MemoryBlockStore()
    root = import_files(whole, {name: name.encode() for name in "abc"}).cid
    blocks = list(iter_dag(whole, root))
    lost = blocks[2][0]
    KuboBlockStore(kubo_rpc).put_many(found for found in blocks if found[0] != lost)
    store = MemoryBlockStore()
    with pytest.raises(NoPeerHas) as caught:
        await fetch_dag(root, store, [KuboSource(kubo_rpc, threads, online=False)])
    assert caught.value.cid == lost
    assert [cid for cid, _ in blocks if not store.has(cid)] == [lost]


async def test_a_dag_that_is_larger_than_allowed_is_broken_off(
    kubo_rpc: KuboRpc, threads: ThreadPoolExecutor
) -> None:
    root = import_stream(KuboBlockStore(kubo_rpc), [random_bytes(20_000_000)]).cid
    with pytest.raises(FetchLimit, match="more than 5000000 bytes"):
        await fetch_dag(
            root,
            MemoryBlockStore(),
            [KuboSource(kubo_rpc, threads, online=False)],
            limits=FetchLimits(max_bytes=5_000_000),
        )


def test_a_pin_has_a_name_and_is_listed_under_it_alone(kubo_rpc: KuboRpc) -> None:
    store = KuboBlockStore(kubo_rpc)
    first, second = (import_files(store, {"a": content}).cid for content in (b"1", b"2"))
    assert kubo_rpc.pin(first, "bacalhau a")
    assert kubo_rpc.pin(second, "bacalhau ab")
    assert kubo_rpc.pins("bacalhau a") == {first}
    assert kubo_rpc.pin_name(second) == "bacalhau ab"
    kubo_rpc.collect_garbage()
    assert store.has(first)
    for cid in (first, second):
        kubo_rpc.unpin(cid)
        kubo_rpc.unpin(cid)  # twice is the same as once
    assert kubo_rpc.pin_name(first) is None
    assert kubo_rpc.collect_garbage() >= 4
    assert not store.has(first)


def test_a_dag_that_kubo_does_not_have_is_not_pinned(kubo_rpc: KuboRpc) -> None:
    assert not kubo_rpc.pin(Cid.of(RAW, b"nobody has this"), "name")


def test_kubo_refuses_a_block_that_is_not_what_its_cid_names(kubo_rpc: KuboRpc) -> None:
    with pytest.raises(KuboRefused, match="mismatch"):
        kubo_rpc.import_blocks([(Cid.of(RAW, GOOD), BAD)])


# --- what is no honest Kubo ---


class _Answers(ThreadingHTTPServer):
    """Answers each command by its own bytes; `asked` holds method and path of each request."""

    daemon_threads = True

    def __init__(self, answers: dict[str, tuple[int, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: _Answers

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        command = self.path.partition("?")[0].removeprefix("/api/v0")
        self.server.asked.append((self.command, self.path))
        status, body = self.server.answers.get(command, (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[_Answers] = []

    def start(answers: dict[str, tuple[int, bytes]]) -> _Answers:
        server = _Answers(answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_every_command_is_a_post(serve: Serve) -> None:
    server = serve({"/version": (200, b'{"Version":"1"}'), "/block/get": (200, GOOD)})
    rpc = KuboRpc(server.url)
    assert rpc.version() == "1"
    assert rpc.block(Cid.of(RAW, GOOD)) == GOOD
    assert {method for method, _ in server.asked} == {"POST"}
    rpc.close()


def test_other_bytes_for_a_block_are_refused(
    serve: Serve,
) -> None:
    rpc = KuboRpc(serve({"/block/get": (200, BAD)}).url)
    with pytest.raises(InvalidBlock, match="other bytes"):
        rpc.block(Cid.of(RAW, GOOD))
    rpc.close()


async def test_other_bytes_in_a_car_are_refused_and_not_stored(
    serve: Serve, threads: ThreadPoolExecutor
) -> None:
    whole = MemoryBlockStore()
    root = import_files(whole, {"a": GOOD}).cid
    (_, folder), (file, _) = list(iter_dag(whole, root))
    evil = dagpb.encode([], b"evil")
    car = b"".join(write_blocks([root], [(root, folder), (file, evil)]))
    rpc = KuboRpc(serve({"/dag/export": (200, car)}).url)
    with pytest.raises(InvalidCar, match="not what its CID"):
        list(rpc.export(root).blocks())
    store = MemoryBlockStore()
    with pytest.raises(NoPeerHas) as caught:
        await fetch_dag(root, store, [KuboSource(rpc, threads, online=False)])
    assert caught.value.cid == file
    assert not store.has(file)
    rpc.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"no JSON", b"[]", b"null", b'{"Size":"many"}', b'{"Size":' + b"1" * 2_000_000 + b"}"],
    ids=["nothing", "text", "list", "null", "no number", "megabytes"],
)
def test_an_answer_that_makes_no_sense_is_an_error(serve: Serve, answer: bytes) -> None:
    server = serve({"/block/stat": (200, answer)})
    rpc = KuboRpc(server.url)
    with pytest.raises((KuboRefused, BlockNotFound)):
        rpc.block_size(Cid.of(RAW, GOOD))
    rpc.close()


def test_a_block_above_the_limit_is_not_read_to_its_end(
    serve: Serve,
) -> None:
    rpc = KuboRpc(serve({"/block/get": (200, bytes(dagpb.MAX_BLOCK_BYTES + 1))}).url)
    with pytest.raises(KuboRefused, match="more than"):
        rpc.block(Cid.of(RAW, GOOD))
    rpc.close()


def test_a_server_that_is_no_kubo_is_named_with_its_status(
    serve: Serve,
) -> None:
    server = serve({})
    rpc = KuboRpc(server.url)
    with pytest.raises(KuboRefused, match=rf"the Kubo node at {server.url} answers /version: 404"):
        rpc.version()
    rpc.close()


def test_a_kubo_that_is_not_there_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    rpc = KuboRpc(f"http://127.0.0.1:{port}")
    with pytest.raises(KuboUnavailable, match=f"127.0.0.1:{port} does not answer: Connection refused"):
        rpc.version()
    rpc.close()


def test_a_kubo_that_takes_too_long_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubo_rpc, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rpc = KuboRpc(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(KuboUnavailable, match="it takes too long"):
            rpc._json("/version", seconds=0.2)
        rpc.close()


def test_closing_frees_a_thread_that_waits_for_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rpc = KuboRpc(f"http://127.0.0.1:{silent.getsockname()[1]}")
        failures: list[Exception] = []

        def ask() -> None:
            try:
                rpc.block(Cid.of(RAW, GOOD))
            except KuboUnavailable as error:
                failures.append(error)

        waiting = threading.Thread(target=ask)
        waiting.start()
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)  # the request is there
            started = time.monotonic()
            rpc.close()
            waiting.join(10)
        assert not waiting.is_alive()
        assert time.monotonic() - started < 5
        assert len(failures) == 1
        with pytest.raises(KuboUnavailable, match="not asked any more"):
            rpc.version()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://127.0.0.1:5001", "http://127.0.0.1:5001"),
        ("http://127.0.0.1", "http://127.0.0.1:5001"),
        ("https://kubo.example", "https://kubo.example:443"),
        ("https://user:secret@kubo.example/behind/", "https://kubo.example:443/behind"),
        ("/ip4/10.0.0.1/tcp/5001", "http://10.0.0.1:5001"),
        ("/ip6/::1/tcp/5001", "http://[::1]:5001"),
        ("/dns4/kubo.example/tcp/443/https", "https://kubo.example:443"),
    ],
)
def test_an_address_is_a_url_or_a_multiaddr(text: str, shown: str) -> None:
    assert parse_address(text).shown == shown


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1:5001", "ftp://127.0.0.1", "http://", "/ip4/1.2.3.4/udp/1", "http://h:x"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress, match="is no address of a Kubo node"):
        parse_address(text)

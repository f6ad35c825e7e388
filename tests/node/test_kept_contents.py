"""What a node keeps, in its own store and in a Kubo: the same cases on both, each read after a collection, which
leaves nothing in the buffer before Kubo. Then what only Kubo does: its network, its pins, its absences."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.car import write_car
from bacalhau.ipfs.dag import find_missing
from bacalhau.ipfs.errors import NoPeerHas
from bacalhau.ipfs.importer import import_files, import_path, import_stream
from bacalhau.ipfs.kubo_rpc import KuboRpc
from bacalhau.model.cid import Cid
from bacalhau.model.market import ClaimedInput
from bacalhau.model.refusals import RefusalReason
from bacalhau.model.units import MIB
from bacalhau.node import kubo
from bacalhau.node.kubo import Kubo
from bacalhau.node.seals import SealingStore
from bacalhau.v1 import ipfs_service_pb2 as pb
from tests.ipfs.conftest import make_tree, random_bytes
from tests.rpc.served_ipfs import Served, add, chunks, content_of, entry, get, refused, requests_for, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.parts.kubo import KuboDaemon

    Serving = Callable[[], AbstractAsyncContextManager[Served]]

NO_PIN = pb.AddRequest(options=pb.AddOptions(no_pin=True))


@pytest.fixture(params=["embedded", "kubo"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serving:
    """Serves the same folder each time; nothing that was put is too young to be collected."""
    url = request.getfixturevalue("kubo_daemon").url if request.param == "kubo" else ""
    return lambda: serving(tmp_path / "node", gc_grace_us=0, kubo_url=url)


@pytest.fixture
async def served(serve: Serving) -> AsyncIterator[Served]:
    async with serve() as found:
        yield found


async def collect(served: Served) -> pb.CollectGarbageResponse:
    """The last answer; what an ended call had in use is let go a moment later."""
    async with asyncio.timeout(20):
        while True:
            answer: pb.CollectGarbageResponse = await served.stub.CollectGarbage(pb.CollectGarbageRequest())
            if served.contents.kubo is None or not list(served.store.keys()):
                return answer
            await asyncio.sleep(0.01)


async def test_a_tree_is_read_and_listed_as_it_was_added(served: Served, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    large = random_bytes(5 * MIB + 7)
    (tmp_path / "tree" / "large").write_bytes(large)
    cid = (await add(served, requests_for(tmp_path / "tree"))).cid
    await collect(served)
    assert cid == str(import_path(MemoryBlockStore(), tmp_path / "tree").cid)
    assert await content_of(served, f"{cid}/large") == large
    assert (
        await content_of(served, f"{cid}/large", offset_bytes=300_000, length_bytes=10)
        == large[300_000:300_010]
    )
    await collect(served)
    listed = await served.stub.List(pb.ListRequest(path=f"{cid}/deep"))
    assert [(found.name, found.size_bytes) for found in listed.entries] == [("chunks", 600_000), ("er", 0)]
    await collect(served)
    found = await served.stub.Stat(pb.StatRequest(path=cid))
    assert (found.local, found.pinned, found.type) == (True, True, pb.ENTRY_TYPE_DIRECTORY)


async def test_a_car_comes_out_as_it_went_in(served: Served, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    made = MemoryBlockStore()
    root = import_path(made, tmp_path / "tree").cid
    car = b"".join(write_car(made, root))
    answer = await served.stub.ImportCar(iter([pb.ImportCarRequest(chunk=car)]))
    assert list(answer.roots) == [str(root)]
    await collect(served)
    exported = served.stub.ExportCar(pb.ExportCarRequest(cid=str(root)))
    assert b"".join([part.chunk async for part in exported]) == car


async def test_what_was_kept_is_there_after_a_restart(serve: Serving) -> None:
    content = random_bytes(MIB)
    async with serve() as served:
        cid = (await add(served, [entry("a"), *chunks(content)])).cid
        await collect(served)
    async with serve() as served:
        assert await content_of(served, f"{cid}/a") == content
        assert (await served.stub.Stat(pb.StatRequest(path=cid))).pinned


async def test_what_is_not_pinned_is_collected(served: Served) -> None:
    cid = (await add(served, [NO_PIN, entry(""), *chunks(random_bytes(MIB, 1))])).cid
    assert len(await content_of(served, cid)) == MIB
    answer = await served.stub.CollectGarbage(pb.CollectGarbageRequest())
    assert answer.blocks >= 5
    assert answer.freed_bytes > MIB
    assert not served.contents.whole_store.has(Cid.parse(cid))


async def test_what_is_let_go_is_collected(served: Served) -> None:
    cid = (await add(served, [entry(""), *chunks(random_bytes(MIB, 2))])).cid
    await collect(served)
    assert len(await content_of(served, cid)) == MIB
    assert not (await served.stub.Pin(pb.PinRequest(cid=cid, remove=True))).pinned
    await collect(served)
    assert not served.contents.whole_store.has(Cid.parse(cid))


async def test_content_of_another_node_stays_once_it_is_pinned(served: Served) -> None:
    root = import_files(served.elsewhere, {"a": random_bytes(600_000, 3)}).cid
    assert (await served.stub.Pin(pb.PinRequest(cid=str(root)))).pinned
    await collect(served)
    served.elsewhere.delete_many(list(served.elsewhere.keys()))
    assert await content_of(served, f"{root}/a") == random_bytes(600_000, 3)


async def test_other_nodes_get_all_that_is_kept(served: Served, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    root = Cid.parse((await add(served, requests_for(tmp_path / "tree"))).cid)
    await collect(served)
    got = MemoryBlockStore()
    async for batch in served.serving.blocks([root], recursive=True):
        got.put_many(batch)
    assert find_missing(got, root) is None


async def test_an_input_that_is_kept_counts_as_held(served: Served) -> None:
    cid = Cid.parse((await add(served, [entry("a"), *chunks(b"kept, and held")])).cid)
    absent = import_files(MemoryBlockStore(), {"a": b"nobody has this"}).cid
    await collect(served)
    claimed = [ClaimedInput(cid, 100), ClaimedInput(absent, 7)]
    assert await served.contents.missing(claimed) == (1, 7)
    assert (await served.contents.claim(cid)).size_bytes > 14


# --- Kubo alone ---


@pytest.fixture
def kubo_daemons(make_kubo: Callable[[], KuboDaemon]) -> tuple[KuboDaemon, KuboDaemon]:
    """Two, of which the first knows the second."""
    first, second = make_kubo(), make_kubo()
    first.connect(second)
    return first, second


async def until(holds: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.05)
    assert holds(), what


async def test_what_a_user_adds_to_kubo_is_content_of_the_node(
    kubo_daemon: KuboDaemon, tmp_path: Path
) -> None:
    cid = kubo_daemon.run("add", "-Q", stdin=random_bytes(2 * MIB, 4)).decode().strip()
    async with serving(tmp_path, gc_grace_us=0, kubo_url=kubo_daemon.url) as served:
        found = await served.stub.Stat(pb.StatRequest(path=cid))
        assert (found.local, found.pinned) == (True, True)
        assert await content_of(served, cid) == random_bytes(2 * MIB, 4)


async def test_what_only_the_network_of_kubo_has_is_found(
    kubo_daemons: tuple[KuboDaemon, KuboDaemon], tmp_path: Path
) -> None:
    first, second = kubo_daemons
    content = random_bytes(3 * MIB, 5)
    cid = second.run("add", "-Q", stdin=content).decode().strip()
    async with serving(tmp_path, kubo_url=first.url) as served:
        assert (await served.contents.claim(Cid.parse(cid))).size_bytes > 3 * MIB
        fetched = await served.contents.fetch(Cid.parse(cid))
        assert fetched is not None
        assert fetched.blocks == 12
        assert await content_of(served, cid) == content


async def test_the_pin_of_a_user_is_left_as_it_is(kubo_daemon: KuboDaemon, tmp_path: Path) -> None:
    cid = kubo_daemon.run("add", "-Q", stdin=b"of a user").decode().strip()
    async with serving(tmp_path, gc_grace_us=0, kubo_url=kubo_daemon.url) as served:
        await served.stub.Pin(pb.PinRequest(cid=cid))
        await served.stub.CollectGarbage(pb.CollectGarbageRequest())
        assert kubo_daemon.pins()[cid] == ""
        await served.stub.Pin(pb.PinRequest(cid=cid, remove=True))
        await collect(served)
        assert kubo_daemon.pins()[cid] == ""


async def test_a_result_that_is_sealed_stays_in_the_buffer_until_it_is_revealed(
    kubo_daemon: KuboDaemon, tmp_path: Path
) -> None:
    async with serving(tmp_path, gc_grace_us=0, kubo_url=kubo_daemon.url) as served:
        sealing = SealingStore(served.store, served.serving.seals, "e-1")
        root = import_stream(sealing, [b"committed to, and not revealed"]).cid
        served.pins.add(root)  # what keeps it stands in the journal of a whole node
        await served.stub.CollectGarbage(pb.CollectGarbageRequest())
        assert served.store.has(root)
        assert not kubo_daemon.has(str(root))
        served.serving.seals.open("e-1")
        await collect(served)
        assert kubo_daemon.pins()[str(root)] == "bacalhau self"


async def test_two_nodes_on_one_kubo_leave_each_other_their_pins(
    kubo_daemon: KuboDaemon, tmp_path: Path
) -> None:
    cid = import_stream(store := MemoryBlockStore(), [b"of another node"]).cid
    other = Kubo(KuboRpc(kubo_daemon.url), store, "other")
    await other.check()
    await other.keep(cid)
    async with serving(tmp_path, gc_grace_us=0, kubo_url=kubo_daemon.url) as served:
        await collect(served)
        assert kubo_daemon.pins()[str(cid)] == "bacalhau other"
    assert await other.reconcile(lambda: ()) == set()
    assert str(cid) not in kubo_daemon.pins()
    await other.close()


async def test_what_is_added_while_kubo_is_away_goes_there_when_it_is_back(
    make_kubo: Callable[[], KuboDaemon], tmp_path: Path
) -> None:
    daemon = make_kubo()
    async with serving(tmp_path, gc_grace_us=0, kubo_url=daemon.url) as served:
        daemon.kill()
        content = random_bytes(2 * MIB, 6)
        cid = (await add(served, [entry(""), *chunks(content)])).cid
        assert served.contents.kubo is not None
        assert f"{daemon.url} does not answer" in served.contents.kubo.notices[0]
        await served.stub.CollectGarbage(pb.CollectGarbageRequest())
        assert await content_of(served, cid) == content
        with refused(RefusalReason.CONTENT_UNAVAILABLE, f"the Kubo node at {daemon.url} does not answer"):
            await get(served, str(import_files(MemoryBlockStore(), {"a": b"not here"}).cid))
        daemon.start()
        await until(lambda: cid in daemon.pins(), "pinned in Kubo")
        assert served.contents.kubo.notices == ()
        await collect(served)
        assert await content_of(served, cid) == content


async def test_content_that_only_an_absent_kubo_has_is_a_fault_that_names_it(
    make_kubo: Callable[[], KuboDaemon], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubo, "RETURN_S", 0.1)
    daemon = make_kubo()
    cid = Cid.parse(daemon.run("add", "-Q", stdin=random_bytes(MIB, 7)).decode().strip())
    async with serving(tmp_path, kubo_url=daemon.url) as served:
        daemon.kill()
        with pytest.raises(NoPeerHas, match=f"the Kubo node at {daemon.url} does not answer"):
            await served.contents.fetch(cid)
        with refused(RefusalReason.CONTENT_UNAVAILABLE, f"the Kubo node at {daemon.url} does not answer"):
            await get(served, str(cid))


async def test_a_kubo_that_takes_nothing_holds_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubo, "KEEP_S", 0.2)
    store = MemoryBlockStore()
    cid = import_stream(store, [b"kept"]).cid
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if len(asked) == 1:
            writer.write(b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 15\r\n\r\n{"Version":"1"}')
        else:
            await reader.read()  # until the client goes
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    slow = Kubo(KuboRpc(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), store, "self")
    await slow.check()
    assert slow.answers
    async with asyncio.timeout(10):
        await slow.keep(cid)
        assert b"/pin/ls" in asked[1]
        await slow.close()
    server.close()


async def test_once_a_source_has_the_root_the_others_are_asked_no_longer(tmp_path: Path) -> None:
    cancelled = asyncio.Event()

    class Silent:
        name = "silent"

        async def get_blocks(
            self, cids: Sequence[Cid], *, recursive: bool
        ) -> AsyncIterator[tuple[Cid, bytes]]:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            yield cids[0], b""

    async with serving(tmp_path) as served:
        cid = import_stream(served.elsewhere, [b"there"]).cid
        silent = Silent()
        served.contents.own_sources = lambda: [silent]  # type: ignore[method-assign]
        await served.contents.claim(cid)
        async with asyncio.timeout(1):
            await cancelled.wait()

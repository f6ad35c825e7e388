"""IpfsService on a real server, a real store and real stubs: streams in, streams out, and what is refused."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacalhau.ipfs.blockstore import wall_clock_us
from bacalhau.ipfs.car import write_car
from bacalhau.ipfs.importer import import_files, import_path, import_stream
from bacalhau.ipfs.layout import ImportOptions
from bacalhau.ipfs.pins import garbage_collect
from bacalhau.model.cid import Cid
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.units import MIB
from bacalhau.rpc.limits import CHUNK_BYTES
from bacalhau.rpc.status import refusal_of
from bacalhau.v1 import ipfs_service_pb2 as pb
from bacalhau.v1.ipfs_service_pb2_grpc import IpfsServiceStub
from tests.ipfs.conftest import KuboRepository, kubo_repository, make_tree, random_bytes
from tests.rpc.served_ipfs import (
    OtherNode,
    Served,
    add,
    chunks,
    content_of,
    entry,
    get,
    refused,
    requests_for,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["kubo_repository"]  # the fixture

ABSENT = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as found:
        yield found


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (pb.AddOptions(), []),
        (pb.AddOptions(cid_version=1), ["--cid-version=1"]),
        (pb.AddOptions(cid_version=1, raw_leaves=False), ["--cid-version=1", "--raw-leaves=false"]),
        (pb.AddOptions(chunk_bytes=MIB), ["--chunker=size-1048576"]),
    ],
    ids=["default", "version 1", "version 1 without raw leaves", "chunks of 1 MiB"],
)
async def test_an_added_folder_has_the_cid_that_kubo_gives_it(
    served: Served, tmp_path: Path, kubo_repository: KuboRepository, options: pb.AddOptions, flags: list[str]
) -> None:
    folder = tmp_path / "folder"
    make_tree(folder)
    (folder / "large").write_bytes(random_bytes(5 * MIB + 7))
    answer = await add(served, [pb.AddRequest(options=options), *requests_for(folder)])
    expected = kubo_repository.run("add", "-rQ", "--hidden", "--only-hash", *flags, folder).decode().strip()
    assert answer.cid == expected
    assert answer.size_bytes == sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert Cid.parse(answer.cid) in served.pins


async def test_a_tree_comes_out_as_it_went_in(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    make_tree(folder)
    sent = list(requests_for(folder))
    answer = await add(served, sent)
    assert answer.entries == sum(request.HasField("entry") for request in sent)

    def contents_by_path(parts: Iterable[Any]) -> dict[str, tuple[int, str, bytes]]:
        found: dict[str, tuple[int, str, bytes]] = {}
        path = ""
        for part in parts:
            if part.HasField("entry"):
                path = part.entry.path
                found[path] = (part.entry.type, part.entry.link_target, b"")
            else:
                assert len(part.chunk) <= MIB
                kind, target, content = found[path]
                found[path] = (kind, target, content + part.chunk)
        return found

    assert contents_by_path(await get(served, answer.cid)) == contents_by_path(sent)


async def test_a_name_that_is_no_utf8_comes_as_bytes_beside_what_can_be_shown_of_it(
    served: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    (folder / os.fsdecode(b"caf\xe9")).mkdir(parents=True)
    (folder / os.fsdecode(b"caf\xe9") / "x").write_text("1")
    (folder / "link").symlink_to(os.fsdecode(b"caf\xe9"))
    (folder / "café").touch()
    cid = import_path(served.store, folder).cid
    entries = [part.entry for part in await get(served, str(cid)) if part.HasField("entry")]
    assert [(one.path, one.path_bytes, one.link_target, one.link_target_bytes) for one in entries] == [
        ("", b"", "", b""),
        ("café", b"", "", b""),
        ("caf\ufffd", b"caf\xe9", "", b""),
        ("caf\ufffd/x", b"caf\xe9/x", "", b""),
        ("link", b"", "caf\ufffd", b"caf\xe9"),
    ]


async def test_one_file_with_an_empty_path_is_the_root_itself(served: Served) -> None:
    content = random_bytes(3 * MIB + 5)
    answer = await add(served, [entry("", size_bytes=len(content)), *chunks(content)])
    parts = await get(served, answer.cid)
    assert [part.entry.size_bytes for part in parts if part.HasField("entry")] == [len(content)]
    assert b"".join(part.chunk for part in parts) == content
    assert {len(part.chunk) for part in parts[1:-1]} <= {CHUNK_BYTES, MIB}


async def test_without_options_nor_pin_the_content_is_stored_and_not_pinned(served: Served) -> None:
    answer = await add(served, [pb.AddRequest(options=pb.AddOptions(no_pin=True)), entry(""), *chunks(b"x")])
    assert served.store.has(Cid.parse(answer.cid))
    assert Cid.parse(answer.cid) not in served.pins


@pytest.mark.parametrize("chunk_bytes", [1000, CHUNK_BYTES, MIB])
@pytest.mark.parametrize(
    ("offset", "length"), [(0, 1), (5, 0), (262_143, 2), (262_144, 900_000), (1_999_999, 5)]
)
async def test_a_part_of_a_file_is_those_bytes(
    served: Served, chunk_bytes: int, offset: int, length: int
) -> None:
    content = random_bytes(2_000_000)
    options = ImportOptions(chunk_size_bytes=chunk_bytes)
    cid = import_stream(served.store, [content], options=options).cid
    expected = content[offset : offset + length] if length else content[offset:]
    assert await content_of(served, str(cid), offset_bytes=offset, length_bytes=length) == expected


async def test_a_path_leads_to_what_is_inside(served: Served, tmp_path: Path) -> None:
    make_tree(tmp_path / "folder")
    cid = import_path(served.store, tmp_path / "folder").cid
    assert await content_of(served, f"{cid}/deep/er/one") == b"1"
    with refused(RefusalReason.NOT_FOUND, "nothing"):
        await get(served, f"{cid}/deep/nothing")
    with refused(RefusalReason.MALFORMED, "file"):
        await get(served, f"{cid}/empty/more")
    with refused(RefusalReason.MALFORMED, "for files"):
        await get(served, f"{cid}/deep", offset_bytes=1)


@pytest.mark.parametrize("path", ["../out", "a/../../out", "/etc/passwd", "a//b", "a/./b", "a\0b", "x" * 300])
async def test_a_path_that_leaves_its_folder_is_refused(served: Served, path: str) -> None:
    with refused(RefusalReason.UNSAFE_PATH):
        await add(served, [entry("", pb.ENTRY_TYPE_DIRECTORY), entry(path), *chunks(b"x")])
    assert served.pins.all() == []


@pytest.mark.parametrize(
    ("requests", "text"),
    [
        ([], "no entry"),
        ([pb.AddRequest()], "empty"),
        ([pb.AddRequest(chunk=b"x")], "belongs to no file"),
        ([entry("d", pb.ENTRY_TYPE_DIRECTORY), pb.AddRequest(chunk=b"x")], "belongs to no file"),
        ([entry("a"), pb.AddRequest(options=pb.AddOptions())], "options"),
        ([entry("a"), entry("a")], "twice"),
        ([entry(""), entry("a")], "below"),
        ([entry("a"), entry("a/b")], "no folder"),
        ([entry("a", pb.ENTRY_TYPE_BLOCK)], "entry.type"),
        ([entry("a", 77)], "entry.type"),
        ([pb.AddRequest(options=pb.AddOptions(cid_version=2))], "cid_version"),
        ([pb.AddRequest(options=pb.AddOptions(chunk_bytes=-1))], "chunk_bytes"),
        ([pb.AddRequest(options=pb.AddOptions(chunk_bytes=MIB + 1))], "chunk_bytes"),
        ([entry("a", size_bytes=10), pb.AddRequest(chunk=b"123456789")], "9 of 10 bytes"),
    ],
)
async def test_a_stream_that_makes_no_sense_is_refused(
    served: Served, requests: list[pb.AddRequest], text: str
) -> None:
    with refused(RefusalReason.MALFORMED, text):
        await add(served, requests)
    assert served.pins.all() == []


async def test_a_chunk_above_the_limit_is_refused_with_its_figures(served: Served) -> None:
    with refused(RefusalReason.TOO_LARGE, str(MIB + 1)):
        await add(served, [entry(""), pb.AddRequest(chunk=bytes(MIB + 1))])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(
        st.one_of(
            st.builds(
                entry,
                st.sampled_from(["", "a", "b", "a/b", "a/b/c", "../x"]) | st.text(max_size=3),
                st.integers(0, 5),
                size_bytes=st.integers(-1, 3),
                link_target=st.text(max_size=4),
            ),
            st.builds(pb.AddRequest, chunk=st.binary(max_size=5)),
            st.just(pb.AddRequest(options=pb.AddOptions(cid_version=1))),
            st.just(pb.AddRequest()),
        ),
        max_size=6,
    )
)
def test_whatever_is_sent_is_stored_or_refused(
    requests: list[pb.AddRequest], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def run() -> None:
        async with serving(tmp_path_factory.mktemp("node")) as served:
            refusal: Refusal | None = None
            cid = ""
            try:
                cid = (await add(served, requests)).cid
            except grpc.RpcError as error:
                refusal = refusal_of(error)
                if refusal is None:
                    raise  # it says more than the assertions would
            assert bool(cid) != (refusal is not None)
            assert [str(pin.cid) for pin in served.pins.all()] == [cid] * bool(cid)
            assert not cid or await get(served, cid)

    asyncio.run(run())


async def test_a_stream_that_breaks_off_leaves_no_pin(served: Served) -> None:
    for _ in range(20):
        call = served.stub.Add()
        await call.write(entry("a"))
        await call.write(pb.AddRequest(chunk=random_bytes(3 * MIB)[:MIB]))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    # The server has a thread for every one of them again, and has pinned none.
    answer = await add(served, [entry(""), *chunks(b"whole")])
    assert [str(pin.cid) for pin in served.pins.all()] == [answer.cid]


async def test_a_connection_that_breaks_leaves_no_pin(served: Served) -> None:
    async with grpc.aio.insecure_channel(served.address) as channel:
        call = IpfsServiceStub(channel).Add()
        await call.write(entry("a"))
        await call.write(pb.AddRequest(chunk=b"content"))
    answer = await add(served, [entry(""), *chunks(b"whole")])
    assert [str(pin.cid) for pin in served.pins.all()] == [answer.cid]


async def test_adds_at_once_have_each_their_own_content(served: Served) -> None:
    contents = [random_bytes(2 * MIB + number, seed=number) for number in range(6)]
    answers = await asyncio.gather(
        *(
            add(served, [entry(f"d/{number}"), *chunks(content, 64 * 1024)])
            for number, content in enumerate(contents)
        )
    )
    for number, (answer, content) in enumerate(zip(answers, contents, strict=True)):
        assert await content_of(served, f"{answer.cid}/d/{number}") == content


async def test_garbage_collection_without_grace_spares_an_add_that_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path, gc_grace_us=0) as served:
        options = pb.AddRequest(options=pb.AddOptions(no_pin=True))
        gone = Cid.parse((await add(served, [options, entry(""), *chunks(b"x")])).cid)
        content = random_bytes(20 * MIB)
        call = served.stub.Add()
        await call.write(entry("file"))
        for request in chunks(content):
            await call.write(request)
        while served.store.stored_bytes < 8 * MIB:
            await served.stub.Stat(pb.StatRequest(path=str(gone)))
        # The second collection finds blocks that the first one wrote to the index, older than itself.
        for _ in range(2):
            await served.stub.CollectGarbage(pb.CollectGarbageRequest())
        await call.done_writing()
        cid = (await call).cid
        assert not served.store.has(gone)
        assert await content_of(served, f"{cid}/file") == content


async def test_what_a_pin_keeps_survives_and_what_is_let_go_is_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path, gc_grace_us=0) as served:
        cid = (await add(served, [entry(""), *chunks(random_bytes(MIB))])).cid
        assert (await served.stub.CollectGarbage(pb.CollectGarbageRequest())).blocks == 0
        for _ in range(2):  # twice is the same as once
            assert not (await served.stub.Pin(pb.PinRequest(cid=cid, remove=True))).pinned
        answer = await served.stub.CollectGarbage(pb.CollectGarbageRequest())
        assert answer.blocks == 5
        assert answer.freed_bytes > MIB
        with refused(RefusalReason.CONTENT_UNAVAILABLE, "no peer has CID"):
            await get(served, cid)


async def test_content_of_another_node_is_fetched_where_it_is_needed(served: Served, tmp_path: Path) -> None:
    make_tree(tmp_path / "folder")
    cid = import_path(served.elsewhere, tmp_path / "folder").cid
    listed = await served.stub.List(pb.ListRequest(path=f"{cid}/deep"))
    assert [(found.name, found.type, found.size_bytes) for found in listed.entries] == [
        ("chunks", pb.ENTRY_TYPE_FILE, 600_000),
        ("er", pb.ENTRY_TYPE_DIRECTORY, 0),
    ]
    # Looking at a folder brings no content.
    assert not (await served.stub.Stat(pb.StatRequest(path=str(cid)))).local
    assert await content_of(served, f"{cid}/deep/chunks") == random_bytes(600_000)
    assert (await served.stub.Pin(pb.PinRequest(cid=str(cid)))).pinned
    found = await served.stub.Stat(pb.StatRequest(path=str(cid)))
    assert found.local
    assert found.pinned


async def test_who_asks_for_it_hears_how_far_the_node_is_that_fetches_from_others(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, go_on, blocks_of = random_bytes(MIB), asyncio.Event(), OtherNode.get_blocks

    async def slow(self: OtherNode, cids: list[Cid], *, recursive: bool) -> AsyncIterator[tuple[Cid, bytes]]:
        number = 0
        async for found in blocks_of(self, cids, recursive=recursive):
            number += 1
            if number == 4:
                await go_on.wait()
            yield found

    monkeypatch.setattr(OtherNode, "get_blocks", slow)
    monkeypatch.setattr("bacalhau.ipfs.fetch._BATCH_BLOCKS", 1)
    (tmp_path / "file").write_bytes(content)
    cid = import_path(served.elsewhere, tmp_path / "file").cid
    told, got = [], b""
    async for answer in served.stub.Get(pb.GetRequest(path=str(cid), progress=True), timeout=30):
        if answer.HasField("progress"):
            told.append((answer.progress.done_bytes, answer.progress.total_bytes))
            if told[-1][0] >= 3 * MIB // 4:
                go_on.set()
        got += answer.chunk
    assert got == content
    assert told == sorted(told)
    assert MIB // 2 < told[-1][0] < MIB < told[-1][1] < MIB + 1000
    # Nothing has to come any more.
    again = [answer.WhichOneof("part") for answer in await get(served, str(cid), progress=True)]
    assert set(again) == {"entry", "chunk"}


async def test_who_does_not_ask_hears_no_progress(served: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(random_bytes(MIB))
    cid = import_path(served.elsewhere, tmp_path / "file").cid
    parts = {answer.WhichOneof("part") for answer in await get(served, str(cid))}
    assert parts == {"entry", "chunk"}


async def test_a_cid_that_nobody_has_is_refused_by_every_call(served: Served) -> None:
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: get(served, ABSENT),
        lambda: served.stub.List(pb.ListRequest(path=ABSENT)),
        lambda: served.stub.Stat(pb.StatRequest(path=ABSENT + "/x")),
        lambda: served.stub.Pin(pb.PinRequest(cid=ABSENT)),
        lambda: drained(served.stub.ExportCar(pb.ExportCarRequest(cid=ABSENT))),
    ]
    for call in calls:
        with refused(RefusalReason.CONTENT_UNAVAILABLE, "no peer has CID"):
            await call()


async def drained(stream: AsyncIterator[pb.ExportCarResponse]) -> bytes:
    return b"".join([answer.chunk async for answer in stream])


@pytest.mark.parametrize("text", ["", "nonsense", "../x", "/" + ABSENT, "Qm" + "1" * 44])
async def test_what_is_no_cid_is_refused_as_malformed(served: Served, text: str) -> None:
    with refused(RefusalReason.MALFORMED, "CID"):
        await get(served, text)
    with refused(RefusalReason.MALFORMED, "CID"):
        await served.stub.Pin(pb.PinRequest(cid=text))


@pytest.mark.parametrize("shards", [False, True], ids=["plain", "sharded"])
async def test_a_folder_is_listed_by_pages_in_order_of_names(served: Served, shards: bool) -> None:
    names = [f"{'long name ' * 3}{number}" for number in range(25)]
    options = ImportOptions(shard_bytes=100 if shards else MIB)
    cid = import_files(served.store, {name: name.encode() for name in names}, options=options).cid
    found: list[str] = []
    token = ""
    pages = 0
    while token or not pages:
        pages += 1
        page = await served.stub.List(pb.ListRequest(path=str(cid), page_size=10, page_token=token))
        found += [each.name for each in page.entries]
        token = page.next_page_token
    assert found == sorted(names)
    assert pages == 3
    with refused(RefusalReason.MALFORMED, "page_token"):
        await served.stub.List(pb.ListRequest(path=str(cid), page_token="elsewhere"))


async def test_stat_tells_kinds_sizes_and_blocks(served: Served, tmp_path: Path) -> None:
    make_tree(tmp_path / "folder")
    folder = import_path(served.store, tmp_path / "folder").cid
    large = await served.stub.Stat(pb.StatRequest(path=f"{folder}/deep/chunks"))
    assert (large.type, large.size_bytes, large.link_count) == (pb.ENTRY_TYPE_FILE, 600_000, 3)
    assert large.dag_bytes > 600_000
    assert (await served.stub.Stat(pb.StatRequest(path=f"{folder}/dangling"))).type == pb.ENTRY_TYPE_SYMLINK
    foreign = Cid.of(0x71, b"\xa0")  # dag-cbor, an empty map
    raw = Cid.of(0x55, b"raw")
    served.store.put_many([(foreign, b"\xa0"), (raw, b"raw")])
    for cid, size in ((foreign, 1), (raw, 3)):
        found = await served.stub.Stat(pb.StatRequest(path=str(cid)))
        assert (found.type, found.size_bytes, found.local) == (pb.ENTRY_TYPE_BLOCK, size, True)
    with refused(RefusalReason.UNSUPPORTED):
        await get(served, str(foreign))
    with refused(RefusalReason.UNSUPPORTED):
        await served.stub.Pin(pb.PinRequest(cid=str(foreign)))


async def test_a_car_goes_to_kubo_and_comes_back(
    served: Served, tmp_path: Path, kubo_repository: KuboRepository
) -> None:
    make_tree(tmp_path / "folder")
    cid = (await add(served, requests_for(tmp_path / "folder"))).cid
    exported = await drained(served.stub.ExportCar(pb.ExportCarRequest(cid=cid)))
    assert cid.encode() in kubo_repository.run("dag", "import", stdin=exported)
    returned = kubo_repository.run("dag", "export", cid)
    async with serving(tmp_path / "second") as second:
        answer = await second.stub.ImportCar(cars(returned))
        assert list(answer.roots) == [cid]
        assert Cid.parse(cid) in second.pins
        assert await content_of(second, f"{cid}/deep/chunks") == random_bytes(600_000)


def cars(car: bytes, size: int = 50_000) -> Iterator[pb.ImportCarRequest]:
    for start in range(0, len(car), size):
        yield pb.ImportCarRequest(chunk=car[start : start + size])


async def test_a_car_that_is_damaged_or_cut_short_is_refused_and_pins_nothing(served: Served) -> None:
    cid = import_stream(served.elsewhere, [random_bytes(MIB)]).cid
    car = b"".join(write_car(served.elsewhere, cid))
    damaged = car[:-1000] + bytes([car[-1000] ^ 1]) + car[-999:]
    for bad in (damaged, car[:-10], b"", b"no CAR at all"):
        with refused(RefusalReason.MALFORMED, "CAR"):
            await served.stub.ImportCar(cars(bad))
    assert served.pins.all() == []


async def test_a_full_store_refuses_and_keeps_serving(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        kept = (await add(served, [entry(""), *chunks(b"kept")])).cid
        served.store._limit_bytes = 4 * MIB
        with refused(RefusalReason.STORAGE_FULL, "full"):
            await add(served, [entry(""), *chunks(random_bytes(8 * MIB))])
        assert await content_of(served, kept) == b"kept"


async def test_a_reader_that_leaves_frees_its_hold(served: Served) -> None:
    cid = import_stream(served.store, [random_bytes(20 * MIB)]).cid
    for _ in range(20):  # more than there are threads
        stream = served.stub.Get(pb.GetRequest(path=str(cid)))
        assert (await stream.read()).HasField("entry")
        stream.cancel()
    assert len(await content_of(served, str(cid))) == 20 * MIB
    async with asyncio.timeout(10):
        while garbage_collect(served.store, served.pins, grace_us=-1, clock_us=wall_clock_us).kept_blocks:
            await served.stub.Stat(
                pb.StatRequest(path=str(cid))
            )  # meanwhile the server hears of the last one


async def test_other_calls_are_answered_while_content_streams_in(served: Served) -> None:
    content = random_bytes(4 * MIB)
    known = (await add(served, [entry(""), *chunks(b"known")])).cid
    uploading = asyncio.create_task(add(served, [entry(""), *chunks(content * 32)]))
    answered = 0
    while not uploading.done():
        assert (await served.stub.Stat(pb.StatRequest(path=known))).pinned
        answered += 1
    await uploading
    assert answered > 10

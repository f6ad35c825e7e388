"""IPFS verbs, and content from strangers that must not leave its folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.cli.downloads import UnsafeEntry, unpack
from bacalhau.v1 import ipfs_service_pb2, job_pb2
from bacalhau.v1.ipfs_service_pb2 import EntryHeader, FetchProgress, GetResponse
from tests.cli.conftest import environment
from tests.cli.scripted_node import JOB_ID, RESULT_CID, ScriptedNode, execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Command

FILE, FOLDER, LINK = 1, 2, 3
ROOT = (("", FOLDER, ""),)


def entry(path: str, kind: int, target: str = "") -> GetResponse:
    return GetResponse(entry=EntryHeader(path=path, type=kind, link_target=target))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "entries",
    [
        [*ROOT, ("../x", FILE, "")],
        [*ROOT, ("/x", FILE, "")],
        [*ROOT, ("a/../x", FILE, "")],
        [*ROOT, (".", FILE, "")],
        [*ROOT, ("a//b", FILE, "")],
        [*ROOT, ("a", LINK, "/etc"), ("a/passwd", FILE, "")],
        [*ROOT, ("a", LINK, ".."), ("a/x", FILE, "")],
        [*ROOT, ("a", LINK, "b"), ("a/x", FILE, "")],
        [*ROOT, ("a", LINK, "../x")],
        [*ROOT, ("a", FOLDER, ""), ("a/up", LINK, ".."), ("out", LINK, "a/up/../x")],
        [*ROOT, ("a", LINK, "")],
        [*ROOT, ("a", FILE, ""), ("a", FILE, "")],
        [*ROOT, ("a", FILE, ""), ("a/b", FILE, "")],
        [*ROOT, ("a", FILE, ""), ("", FOLDER, "")],
        [("", LINK, "/etc/passwd")],
        [("", LINK, "x")],
        [*ROOT, ("a", 4, "")],
        [("a", FILE, "")],
    ],
)
def test_content_that_would_leave_its_folder_is_refused(
    entries: list[tuple[str, int, str]], tmp_path: Path
) -> None:
    with pytest.raises(UnsafeEntry, match="the content is refused"):
        unpack((entry(*item) for item in entries), tmp_path / "root")
    assert {path.name for path in tmp_path.iterdir()} <= {"root"}


def test_names_that_are_no_utf8_are_written_as_their_bytes(tmp_path: Path) -> None:
    name = EntryHeader(path="caf\ufffd", path_bytes=b"caf\xe9", type="ENTRY_TYPE_FILE")
    link = EntryHeader(
        path="l", type="ENTRY_TYPE_SYMLINK", link_target="caf\ufffd", link_target_bytes=b"caf\xe9"
    )
    parts = [entry("", FOLDER), GetResponse(entry=name), GetResponse(chunk=b"1"), GetResponse(entry=link)]
    unpack(iter(parts), tmp_path / "root")
    assert sorted(os.listdir(os.fsencode(tmp_path / "root"))) == [b"caf\xe9", b"l"]
    assert (tmp_path / "root" / "l").read_bytes() == b"1"


@pytest.mark.parametrize(
    "entries",
    [
        [EntryHeader(path="x", path_bytes=b"../\xe9", type="ENTRY_TYPE_FILE")],
        [EntryHeader(path="x", path_bytes=b"/\xe9", type="ENTRY_TYPE_FILE")],
        [EntryHeader(path="x", path_bytes=b"\xe9\0", type="ENTRY_TYPE_FILE")],
        [EntryHeader(path="x", path_bytes=b"\xe9/..", type="ENTRY_TYPE_FILE")],
        [EntryHeader(path="l", type="ENTRY_TYPE_SYMLINK", link_target="x", link_target_bytes=b"../\xe9")],
        [EntryHeader(path="a", path_bytes=b"\xe9", type="ENTRY_TYPE_FILE")] * 2,
    ],
)
def test_bytes_of_names_leave_the_folder_no_more_than_names_do(
    entries: list[EntryHeader], tmp_path: Path
) -> None:
    with pytest.raises(UnsafeEntry, match="the content is refused"):
        unpack(iter([entry("", FOLDER), *(GetResponse(entry=one) for one in entries)]), tmp_path / "root")
    assert {path.name for path in tmp_path.iterdir()} <= {"root"}


def test_links_inside_the_folder_are_kept(tmp_path: Path) -> None:
    parts = [entry("", FOLDER), entry("a", FOLDER), entry("a/x", FILE), GetResponse(chunk=b"1"),
             entry("l", LINK, "a/x"), entry("a/up", LINK, "../l")]  # fmt: skip
    unpack(iter(parts), tmp_path / "root")
    assert (tmp_path / "root" / "a" / "up").read_bytes() == b"1"


@given(
    st.lists(
        st.tuples(st.text("./a", max_size=6), st.sampled_from([1, 2, 3]), st.text("./a", max_size=8)),
        max_size=6,
    )
)
def test_whatever_is_sent_nothing_is_outside_the_folder(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, int, str]]
) -> None:
    place = tmp_path_factory.mktemp("place")
    root = place / "root"
    with contextlib.suppress(UnsafeEntry):
        unpack((entry(*item) for item in [*ROOT, *entries]), root)
    assert [path.name for path in place.iterdir()] == ["root"]
    for path in root.rglob("*"):
        try:
            path.resolve(strict=True).relative_to(root.resolve())
        except (FileNotFoundError, RuntimeError, OSError):  # a link to nowhere, or in a circle
            assert path.is_symlink()


def test_what_is_there_is_not_written_over(scripted: ScriptedNode, bacalhau: Command, tmp_path: Path) -> None:
    scripted.script.content["CID"] = [entry("", FILE), GetResponse(chunk=b"new")]
    (tmp_path / "x").write_bytes(b"old")
    done = bacalhau("ipfs", "get", "-o", "x", "CID")
    assert done.returncode == 2
    assert b"x exists" in done.stderr
    assert (tmp_path / "x").read_bytes() == b"old"


def test_broken_fetch_leaves_nothing(scripted: ScriptedNode, bacalhau: Command, tmp_path: Path) -> None:
    scripted.script.content["CID"] = [entry("", FOLDER), entry("a", FILE), entry("../b", FILE)]
    done = bacalhau("ipfs", "get", "-o", "x", "CID")
    assert done.returncode == 125
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("quiet", [False, True])
def test_what_the_node_fetches_itself_is_told_on_a_pipe_and_not_on_stdout(
    quiet: bool, scripted: ScriptedNode, bacalhau: Command, tmp_path: Path
) -> None:
    told = [FetchProgress(done_bytes=mib << 20, total_bytes=50 << 20) for mib in (1, 2, 3)]
    scripted.script.content["CID"] = [
        *(GetResponse(progress=progress) for progress in told),
        entry("", FILE),
        GetResponse(chunk=b"all"),
    ]
    done = bacalhau("ipfs", "get", "-o", "x", "CID", *(["-q"] if quiet else []))
    # What comes within five seconds is one line.
    lines = b"fetching CID: 1 MiB of 50 MiB from other nodes\nsaved to x\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"" if quiet else lines)
    assert (tmp_path / "x").read_bytes() == b"all"
    (asked,) = scripted.asked_for(ipfs_service_pb2.GetRequest)
    assert asked.progress


def test_unknown_content_makes_no_folder_for_it(bacalhau: Command, tmp_path: Path) -> None:
    done = bacalhau("ipfs", "get", "-o", "a/b/x", "QmNothing")
    assert b"no peer has CID QmNothing" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_content_that_the_disk_has_no_room_for_leaves_nothing_and_says_where(
    scripted: ScriptedNode, tmp_path: Path
) -> None:
    scripted.script.content["CID"] = [entry("", FILE), GetResponse(chunk=bytes(100_000))]
    get = (sys.executable, "-m", "bacalhau", "ipfs", "get", "-o", "x", "CID")
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 10; exec "$@"', "bash", *get],
        capture_output=True,
        timeout=30,
        check=False,
        cwd=tmp_path,
        env=environment(scripted.port),
    )
    assert (done.returncode, done.stderr) == (125, b"bacalhau: x cannot be written: File too large\n")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_fetch_leaves_nothing(
    scripted: ScriptedNode, start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    more = threading.Event()

    def parts() -> Iterator[GetResponse]:
        yield entry("", FILE)
        yield GetResponse(chunk=b"the beginning")
        more.wait(30)

    scripted.script.content["CID"] = parts()
    command = start("ipfs", "get", "-o", "x", "CID")
    while not any(path.is_file() for path in tmp_path.rglob("content")):
        assert command.poll() is None
        time.sleep(0.01)
    command.send_signal(signal.SIGINT)
    assert command.wait(30) == 130
    more.set()
    assert list(tmp_path.iterdir()) == []


def test_get_refuses_a_folder_with_something_in_it_and_takes_an_empty_one(
    scripted: ScriptedNode, bacalhau: Command, tmp_path: Path
) -> None:
    scripted.script.jobs = [job_pb2.Job(id=JOB_ID, executions=[execution()])]
    scripted.script.content[RESULT_CID] = [
        entry("", FOLDER),
        entry("exitCode", FILE),
        GetResponse(chunk=b"0"),
    ]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    refused = bacalhau("get", "1a2b3c4d", "--output-dir", "full")
    assert refused.returncode == 2
    assert b"full exists and is not empty" in refused.stderr
    (tmp_path / "empty").mkdir()
    assert bacalhau("get", "1a2b3c4d", "--output-dir", "empty").returncode == 0
    assert (tmp_path / "empty" / "exitCode").read_bytes() == b"0"
    assert bacalhau("get", "--raw", "1a2b3c4d").returncode == 0
    assert (tmp_path / "job-1a2b3c4d" / "e-1" / "exitCode").read_bytes() == b"0"


def test_add_speaks_as_kubo_does(scripted: ScriptedNode, bacalhau: Command, tmp_path: Path) -> None:
    (tmp_path / "hello").write_bytes(b"hello")
    plain = bacalhau("ipfs", "add", "--cid-version", "1", "--chunker", "size-1048576", "hello")
    cid = next(iter(scripted.script.content))
    assert plain.stdout == f"added {cid} hello\n".encode()
    options = scripted.asked_for(ipfs_service_pb2.AddRequest)[0].options
    assert (options.cid_version, options.chunk_bytes, options.HasField("raw_leaves")) == (1, 1048576, False)
    assert (
        bacalhau("ipfs", "add", "-Q", "--cid-version", "1", "--chunker", "size-1048576", "hello").stdout
        == f"{cid}\n".encode()
    )
    assert bacalhau("ipfs", "cat", f"/ipfs/{cid}").stdout == b"hello"
    piped = bacalhau("ipfs", "add", stdin=b"from a pipe")
    assert piped.stdout.startswith(b"added ")
    folder = bacalhau("ipfs", "add", ".")
    assert (folder.returncode, b"-r" in folder.stderr) == (2, True)


def test_unknown_content_is_refused_by_the_nodes_words(bacalhau: Command) -> None:
    done = bacalhau("ipfs", "cat", "QmNothing")
    assert done.returncode == 125
    assert done.stderr == b"bacalhau: no peer has CID QmNothing (CONTENT_UNAVAILABLE)\n"


def test_special_file_is_refused_before_the_job_is_submitted(
    scripted: ScriptedNode, bacalhau: Command, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / "pipe")
    done = bacalhau("docker", "run", "-i", "./data", "ubuntu")
    assert done.returncode == 2
    assert b"pipe is no file, folder or link" in done.stderr
    assert not scripted.asked_for(job_pb2.JobSpec)

"""Submitting a job and staying with it: output, exit codes, retries, Ctrl-C."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import grpc
import pytest

from bacalhau.v1 import auction_pb2, execution_pb2, ipfs_service_pb2, job_pb2, job_service_pb2, refusal_pb2
from tests.cli.conftest import environment
from tests.cli.scripted_node import JOB_ID, NODE_ID, RESULT_CID, ScriptedNode, ended, event, execution, output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Command


def test_stdout_and_stderr_of_the_job_come_apart_and_progress_goes_to_stderr(
    scripted: ScriptedNode, bacalhau: Command
) -> None:
    scripted.script.history = [
        event("DECLINED", node_id="n-b", refusal=refusal_pb2.Refusal(reason=22, message="no room")),  # type: ignore[arg-type]
        event("BID_RECEIVED", node_id="n-a", price_microcredits=2500),
        event("AWARDED", node_id="n-a", execution_id="e-1", price_microcredits=2500),
        event("AWARD_CONFIRMED", node_id="n-a", execution_id="e-1"),
        ended(execution()),
    ]
    scripted.script.logs["e-1"] = [output(b"Hello World\n"), output(b"\xff raw\n", stream=2)]
    done = bacalhau("docker", "run", "ubuntu", "echo", "Hello World")
    assert done.stdout == b"Hello World\n"
    assert done.returncode == 0
    assert b"\xff raw\n" in done.stderr
    told = done.stderr.replace(b"\xff raw\n", b"").decode()
    assert told.splitlines() == [
        f"job {JOB_ID}",
        "declined: n-b: no room (BUSY)",
        "bid: n-a asks 0.0025 credits",
        "winner: n-a for 0.0025 credits",
        f"result {RESULT_CID}",
        "price 0.0025 credits",
        f"fetch it with: bacalhau get {JOB_ID}",
    ]
    spec = scripted.asked_for(job_service_pb2.SubmitJobRequest)[0].spec
    assert spec.docker.image == "ubuntu"
    assert list(spec.docker.command) == ["echo", "Hello World"]


@pytest.mark.parametrize("code", [1, 42, 137])
def test_exit_code_is_that_of_the_job(scripted: ScriptedNode, bacalhau: Command, code: int) -> None:
    scripted.script.history[-1] = ended(execution("e-1"), execution("e-2", exit_code=code))
    assert bacalhau("docker", "run", "-q", "ubuntu").returncode == code


def test_failed_job_ends_with_125_and_says_why(scripted: ScriptedNode, bacalhau: Command) -> None:
    fault = execution_pb2.Fault(
        kind=execution_pb2.FAULT_KIND_OUT_OF_MEMORY, message="used 513 of 512 MiB; raise --memory"
    )
    scripted.script.history = [ended(state="FAILED", failure=fault)]
    done = bacalhau("docker", "run", "-q", "ubuntu")
    assert done.returncode == 125
    assert b"used 513 of 512 MiB; raise --memory (OUT_OF_MEMORY)" in done.stderr


def test_first_line_arrives_while_the_job_still_runs(
    scripted: ScriptedNode, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    read = threading.Event()
    scripted.script.logs["e-1"] = [output(b"first\n"), read, output(b"second\n")]
    scripted.script.history.insert(1, read)
    process = start("docker", "run", "-q", "ubuntu")
    assert process.stdout is not None
    assert process.stdout.readline() == b"first\n"  # the job cannot end before this was read
    read.set()
    assert process.communicate(timeout=20)[0] == b"second\n"
    assert process.returncode == 0


def test_output_of_a_second_attempt_is_not_printed_twice(scripted: ScriptedNode, bacalhau: Command) -> None:
    """The first execution prints two lines and fails; the second prints all three from the beginning."""
    scripted.script.logs["e-1"] = [output(b"1\n2\n"), output(b"warn\n", stream=2)]
    scripted.script.logs["e-2"] = [output(b"1\n"), output(b"warn\n", stream=2), output(b"2\n3\n")]
    scripted.script.history = [
        event("AWARD_CONFIRMED", execution_id="e-1"),
        event(
            "EXECUTION_FAILED", execution_id="e-1", node_id="n-a", fault=execution_pb2.Fault(message="gone")
        ),
        event("AWARD_CONFIRMED", execution_id="e-2"),
        ended(execution("e-2")),
    ]
    done = bacalhau("docker", "run", "ubuntu")
    assert done.stdout == b"1\n2\n3\n"
    assert done.stderr.count(b"warn\n") == 1
    assert b"failed on n-a: gone" in done.stderr


def test_output_that_has_no_room_here_is_a_failure_that_says_so(scripted: ScriptedNode) -> None:
    scripted.script.logs["e-1"] = [output(b"lost\n")]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bacalhau", "docker", "run", "-q", "ubuntu"],
            stdout=full, stderr=subprocess.PIPE, timeout=60, check=False, env=environment(scripted.port),
        )  # fmt: skip
    told = done.stderr.decode()
    assert done.returncode == 125
    assert "Traceback" not in told
    assert f"No space left on device; the result has all of it: bacalhau get {JOB_ID}" in told


def test_lines_of_several_executions_are_not_mixed(scripted: ScriptedNode, bacalhau: Command) -> None:
    scripted.script.logs["e-1"] = [output(b"aa"), output(b"aa\nb")]
    scripted.script.logs["e-2"] = [output(b"cc"), output(b"cc\n")]
    scripted.script.history = [
        event("AWARD_CONFIRMED", execution_id="e-1"),
        event("AWARD_CONFIRMED", execution_id="e-2"),
        ended(execution("e-1"), execution("e-2")),
    ]
    done = bacalhau("docker", "run", "-q", "-c", "2", "ubuntu")
    assert sorted(done.stdout.replace(b"b", b"b\n").split()) == [b"aaaa", b"b", b"cccc"]


def test_output_that_the_stream_did_not_bring_is_read_from_the_result(
    scripted: ScriptedNode, bacalhau: Command
) -> None:
    scripted.script.logs["e-1"] = [output(b"12"), grpc.StatusCode.INTERNAL]
    chunk = ipfs_service_pb2.GetResponse(chunk=b"123\n")
    scripted.script.content = {f"{RESULT_CID}/stdout": [chunk], f"{RESULT_CID}/stderr": []}
    done = bacalhau("docker", "run", "-q", "ubuntu")
    assert done.stdout == b"123\n"


def test_watch_goes_on_after_the_last_event_when_the_node_was_gone(
    scripted: ScriptedNode, bacalhau: Command
) -> None:
    scripted.script.history = [
        event("BID_RECEIVED", sequence=1, node_id="n-a", price_microcredits=1),
        event("BID_RECEIVED", sequence=2, node_id="n-b", price_microcredits=2),
        grpc.StatusCode.UNAVAILABLE,
        event("AWARD_CONFIRMED", sequence=3, execution_id="e-1"),
        ended(execution()),
    ]
    done = bacalhau("docker", "run", "ubuntu")
    assert done.returncode == 0
    assert done.stderr.count(b"bid: n-a") == 1
    assert b"waiting for it" in done.stderr
    assert [request.after_sequence for request in scripted.asked_for(job_service_pb2.WatchJobRequest)] == [
        0,
        2,
    ]


def test_a_submission_that_a_node_took_and_did_not_answer_is_made_again_under_the_same_id(
    scripted: ScriptedNode, bacalhau: Command, tmp_path: Path
) -> None:
    scripted.script.unanswered = 2
    (tmp_path / "data").write_bytes(b"uploaded first: the node was there")
    done = bacalhau("docker", "run", "-i", f"{tmp_path}/data:/data", "ubuntu")
    assert done.returncode == 0
    assert b"waiting for it" in done.stderr
    submissions = scripted.asked_for(job_service_pb2.SubmitJobRequest)
    assert len(submissions) == 3
    assert len({submission.request_id for submission in submissions}) == 1


def test_ctrl_c_cancels_the_job(
    scripted: ScriptedNode, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    scripted.script.logs["e-1"] = [output(b"started\n"), scripted.cancelled]
    scripted.script.history = [
        event("AWARD_CONFIRMED", sequence=1, execution_id="e-1"),
        scripted.cancelled,
        ended(state="CANCELLED"),
    ]
    process = start("docker", "run", "ubuntu")
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130, told
    assert scripted.asked_for(job_service_pb2.CancelJobRequest)[0].job_id == JOB_ID
    assert b"Traceback" not in told


@pytest.mark.parametrize("flag", ["--id-only", "--detach", "-d", "--wait=false"])
def test_id_alone_is_on_stdout_and_nothing_is_waited_for(
    scripted: ScriptedNode, bacalhau: Command, flag: str
) -> None:
    done = bacalhau("docker", "run", flag, "ubuntu", "sleep", "1000")
    assert done.stdout == f"{JOB_ID}\n".encode()
    assert done.returncode == 0
    assert not scripted.asked_for(job_service_pb2.WatchJobRequest)
    if flag == "--id-only":
        assert done.stderr == b""


def test_waiting_ends_at_its_timeout_and_leaves_the_job(scripted: ScriptedNode, bacalhau: Command) -> None:
    scripted.script.history.insert(1, threading.Event())
    done = bacalhau("docker", "run", "--wait-timeout-secs", "1", "ubuntu")
    assert done.returncode == 125
    assert f"bacalhau logs -f {JOB_ID}".encode() in done.stderr
    assert not scripted.asked_for(job_service_pb2.CancelJobRequest)


def test_local_folder_is_added_and_its_cid_is_in_the_job(
    scripted: ScriptedNode, bacalhau: Command, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "x").write_bytes(b"x" * 3_000_000)
    (data / "link").symlink_to("sub/x")
    done = bacalhau("docker", "run", "-i", "./data:/d", "ubuntu")
    assert done.returncode == 0, done.stderr
    headers = [
        (request.entry.path, request.entry.type, request.entry.link_target)
        for request in scripted.asked_for(ipfs_service_pb2.AddRequest)
        if request.HasField("entry")
    ]
    assert headers == [("", 2, ""), ("link", 3, "sub/x"), ("sub", 2, ""), ("sub/x", 1, "")]
    source = scripted.asked_for(job_service_pb2.SubmitJobRequest)[0].spec.inputs[0]
    assert (source.cid, source.target) == (next(iter(scripted.script.content)), "/d")


def test_wasm_module_and_import_from_here_are_added(
    scripted: ScriptedNode, bacalhau: Command, tmp_path: Path
) -> None:
    (tmp_path / "main.wat").write_text("(module)")
    (tmp_path / "lib.wasm").write_bytes(b"\0asm")
    done = bacalhau("wasm", "run", "-I", "lib.wasm", "main.wat", "one", "--two")
    assert done.returncode == 0, done.stderr
    wasm = scripted.asked_for(job_service_pb2.SubmitJobRequest)[0].spec.wasm
    assert wasm.module_cid in scripted.script.content
    assert list(wasm.arguments) == ["one", "--two"]
    assert [(item.name, item.cid in scripted.script.content) for item in wasm.import_modules] == [
        ("lib", True)
    ]


def test_download_puts_the_result_beside_the_caller(
    scripted: ScriptedNode, bacalhau: Command, tmp_path: Path
) -> None:
    entry = ipfs_service_pb2.EntryHeader
    scripted.script.content[RESULT_CID] = [
        ipfs_service_pb2.GetResponse(entry=entry(path="", type=2)),  # type: ignore[arg-type]
        ipfs_service_pb2.GetResponse(entry=entry(path="stdout", type=1)),  # type: ignore[arg-type]
        ipfs_service_pb2.GetResponse(chunk=b"out"),
    ]
    done = bacalhau("docker", "run", "--download", "ubuntu")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "job-1a2b3c4d" / "stdout").read_bytes() == b"out"
    assert [path.name for path in tmp_path.iterdir()] == ["job-1a2b3c4d"]


def test_job_file_from_dry_run_makes_the_same_job(scripted: ScriptedNode, bacalhau: Command) -> None:
    words = [
        "-c",
        "2",
        "-e",
        "A=b c",
        "--max-price",
        "0.5",
        "--auction",
        "scoring",
        "--weight-start-delay",
        "10u",
        "-s",
        "region=eu",
        "ubuntu",
        "sh",
        "-c",
        "echo $A",
    ]
    file = bacalhau("docker", "run", "--dry-run", *words).stdout
    assert not scripted.asked
    bacalhau("docker", "run", *words)
    bacalhau("create", "-", stdin=file)
    first, second = scripted.asked_for(job_service_pb2.SubmitJobRequest)
    assert first.spec == second.spec
    assert first.request_id != second.request_id
    assert first.spec.max_price_microcredits == 500_000
    assert first.spec.auction.rule == auction_pb2.CLEARING_RULE_SCORING
    assert first.spec.auction.weights.start_delay_second_microcredits == 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--auction", "uniform"], "--auction uniform needs --max-price"),
        (["--auction", "posted"], "--auction posted needs --max-price"),
        (["--weight-input", "1u"], "weights are for --auction scoring"),
    ],
)
def test_terms_that_no_auction_could_be_cleared_by_are_refused_here(
    bacalhau: Command, words: list[str], said: str
) -> None:
    done = bacalhau("docker", "run", *words, "ubuntu")
    assert done.returncode == 2
    assert said.encode() in done.stderr


def test_token_is_sent_as_metadata(scripted: ScriptedNode, bacalhau: Command, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    bacalhau("list", "--api-token-file", "token")
    assert scripted.metadata["authorization"] == "Bearer secret"


def test_refusal_shows_the_nodes_message_and_reason(bacalhau: Command) -> None:
    done = bacalhau("describe", "1a2b3c4d")
    assert done.returncode == 125
    assert done.stderr == b"bacalhau: no job j-1a2b3c4d is known here (NOT_FOUND)\n"


def test_list_shows_as_many_as_were_asked_for_of_all(scripted: ScriptedNode, bacalhau: Command) -> None:
    scripted.script.jobs = [job_pb2.Job(id=f"j-{number:08}") for number in range(20)]
    for words, count in (([], 10), (["--all"], 20), (["--all", "-n", "2"], 2)):
        assert len(bacalhau("list", "--hide-header", *words).stdout.splitlines()) == count


def test_list_and_describe_show_the_job(scripted: ScriptedNode, bacalhau: Command) -> None:
    spec = job_pb2.JobSpec(
        docker=job_pb2.DockerTask(image="ubuntu", command=["echo", "Hello World"]), count=1
    )
    job = job_pb2.Job(id=JOB_ID, spec=spec, state=job_pb2.JOB_STATE_COMPLETED, executions=[execution()])
    job.create_time.FromSeconds(1_700_000_000)
    scripted.script.jobs = [job]
    scripted.script.answers = [
        job_service_pb2.OfferAnswer(node_id=NODE_ID, price_microcredits=2500, won=True),
        job_service_pb2.OfferAnswer(node_id="n-b", refusal=refusal_pb2.Refusal(reason=22, message="no room")),  # type: ignore[arg-type]
    ]
    listed = bacalhau("list", "--id-filter=1a2b3c4d", "--wide").stdout.decode().splitlines()
    assert listed[0].split() == ["CREATED", "ID", "JOB", "STATE", "PUBLISHED"]
    assert listed[1].split("  ") == [
        "2023-11-14T22:13:20.000000Z",
        JOB_ID,
        "Docker ubuntu echo Hello World",
        "Completed",
        f"/ipfs/{RESULT_CID}",
    ]
    short = bacalhau("job", "list", "--hide-header").stdout.decode()
    expected = "2023-11-14 22:13:20  j-1a2b3c4d  Docker ubuntu echo Hell…  Completed  /ipfs/"
    assert short.startswith(expected)
    described = bacalhau("describe", "1a2b3c4d").stdout.decode()
    for line in (
        "State: Completed",
        "Reason: BUSY",
        "Won: true",
        f"ResultCID: {RESULT_CID}",
        "Image: ubuntu",
    ):
        assert line in described
    assert bacalhau("list", "--output", "json").stdout.startswith(b'[\n  {\n    "id": "' + JOB_ID.encode())


def test_terminal_gets_a_moving_line_that_is_gone_before_the_program_writes(
    scripted: ScriptedNode, tmp_path: Path
) -> None:
    figures = {"done_bytes": 1_500_000, "total_bytes": 3_000_000}
    pulling = execution_pb2.EXECUTION_PHASE_PREPARING
    scripted.script.logs["e-1"] = [output(b"from the program\n")]
    scripted.script.history = [
        event("AWARD_CONFIRMED", execution_id="e-0"),
        event("PHASE_CHANGED", execution_id="e-0", node_id="n-a", phase=pulling),
        event("PROGRESS", execution_id="e-0", phase=pulling, **figures),
        event("AWARD_CONFIRMED", execution_id="e-1"),
        ended(execution("e-1")),
    ]
    text = _shown_on_a_terminal(scripted, tmp_path)
    assert "1.4 MiB of 2.8 MiB" in text
    assert "from the program\r\n" in text
    assert "1.4 MiB" not in text.partition("from the program")[2]


def test_terminal_shows_how_long_a_program_runs_until_it_writes(
    scripted: ScriptedNode, tmp_path: Path
) -> None:
    seen = threading.Event()
    running = execution_pb2.EXECUTION_PHASE_RUNNING
    scripted.script.logs["e-1"] = [seen, output(b"from the program\n")]
    scripted.script.history = [
        event("PHASE_CHANGED", execution_id="e-1", node_id="n-a", phase=running, message="attempt 2"),
        seen,
        event("PROGRESS", execution_id="e-1", phase=running),
        ended(execution("e-1")),
    ]
    shown = _shown_on_a_terminal(scripted, tmp_path, lambda shown: seen.set() if b"0:00:0" in shown else None)
    before, _, after = shown.partition("from the program\r\n")
    assert "running on n-a (attempt 2)" in before
    assert "0:00:0" in before
    assert after.startswith(f"result {RESULT_CID}")


def _shown_on_a_terminal(
    scripted: ScriptedNode, folder: Path, looked: Callable[[bytes], None] = lambda shown: None
) -> str:
    """What `docker run ubuntu` writes to a terminal until it ends; `looked` gets all of it after each piece."""
    terminal, side = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "bacalhau", "docker", "run", "ubuntu"],
            stdout=side,
            stderr=side,
            cwd=folder,
            env=environment(scripted.port) | {"TERM": "xterm", "COLUMNS": "100"},
        )
        os.close(side)
        shown = b""
        while chunk := _read(terminal):
            shown += chunk
            looked(shown)
        assert process.wait(20) == 0
    finally:
        os.close(terminal)
    return shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # its other side is closed: the end
        return b""

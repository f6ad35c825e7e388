"""The command line itself: verbs, flags, what is refused by name, how fast and with what it starts."""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bacalhau.cli import constraints, docker, main, mounts, serve
from bacalhau.cli.connection import address_of
from bacalhau.cli.failures import UsageFailure
from bacalhau.v1 import job_pb2
from tests.cli.conftest import REPOSITORY, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Command
    from tests.cli.scripted_node import ScriptedNode

CID = "QmfKJT13h5k1b23ja3ZCVg5nFL9oKz2bVXc8oXgtwiwhjz"


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for inner in group.choices.values():
            yield from leaves(inner)


def test_every_help_has_an_example_and_every_verb_can_run() -> None:
    verbs = list(leaves(main.parser()))
    assert len(verbs) > 30
    for verb in verbs:
        assert f"{verb.prog.split()[0]} " in verb.format_help().partition("example:\n")[2], verb.prog
        assert callable(verb.get_default("run")), verb.prog


def test_the_help_of_the_command_has_an_example_that_it_reads() -> None:
    lines = main.parser().format_help().partition("example:\n")[2].partition("\n\n")[0].splitlines()
    assert "bacalhau serve" in [line.strip() for line in lines]
    for line in lines:
        assert callable(main.parser().parse_args(line.split()[1:]).run)


@pytest.mark.parametrize(
    "line",
    [
        "docker run ubuntu echo Hello World",
        f"docker run -v {CID}:/files ubuntu cat /files/read_csv.py",
        "docker run -i ipfs://Q --cpu 500m --memory 2Gi --gpu 1 -l a,b=c --wait=false ubuntu -- sh -c x",
        "docker run --verifier noop --confidence 0 --min-bids 0 --filplus=false -p ipfs -g 10 ubuntu",
        f"wasm run {CID} --not-a-flag-of-ours",
        "docker run --count 3 --confidence 2 --verification replicated --verify-ignore stdout ubuntu",
        "docker run --verifier deterministic -c 2 ubuntu",
        "wasm validate x.wasm",
        "create job.yaml --id-only",
        "validate -",
        "list --id-filter=j-1 --include-tag a --exclude-tag b --reverse=false --sort-by id --output json",
        "describe j-1 --spec --json --include-events",
        "get j-1/stdout --output-dir x --raw",
        "logs -f j-1",
        "cancel j-1",
        "job run job.yaml",
        "job executions j-1 --output yaml",
        "job history j-1",
        "job stop j-1",
        "job validate",
        "node list --output json",
        "node describe",
        "node connect 127.0.0.1:1",
        "id",
        "version --client",
        "ipfs add -rQ --cid-version 1 --raw-leaves --chunker size-1048576 x",
        "ipfs get -o x CID",
        "ipfs pin rm CID",
        "serve --node-type requester,compute --limit-total-memory 2Gi --bid-window 2s --price-cpu-second 3",
        "devstack --nodes 5",
        "completion zsh",
    ],
)
def test_lines_that_users_know_are_read(line: str) -> None:
    args = main.parser().parse_args(line.split())
    assert callable(args.run)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "docker run --verification magic ubuntu",
            "'magic' is no way of verification: use none, replicated or adaptive",
        ),
        ("docker run --min-bids 3 ubuntu", "--min-bids 3 is not supported"),
        ("docker run --verify-ignore stderr ubuntu", "--verify-ignore: invalid choice"),
        ("docker run --domain a.b ubuntu", "use --network full"),
        ("docker run --filplus ubuntu", "--filplus is not supported"),
        ("docker run --namespace prod ubuntu", "use labels"),
        ("docker run --target all ubuntu", "use --count N"),
        ("docker run --memory lots ubuntu", "'lots' is no size"),
        ("docker run -c 0 ubuntu", "'0' is no whole number from 1"),
        ("docker run", "IMAGE"),
        ("job run --template-vars a=b x.yaml", "templates are not supported"),
        ("serve --ipfs-swarm-addr /ip4/1", "give the RPC API of the Kubo node"),
        ("list --out json", "unrecognized arguments"),
        ("docker ru ubuntu", "invalid choice"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main.parser().parse_args(line.split())
    assert left.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-i", "https://a.b/c"], "inputs from https:// are not supported: download it"),
        (["-i", "s3://b/k"], "inputs from s3:// are not supported"),
        (["-i", "git://a/b"], "clone it"),
        (["-i", "nowhere"], "neither a CID nor a file"),
        (["-i", f"{CID}:files"], "must be an absolute path"),
        (["-v", f"{CID}:/files:rw"], "read-only"),
        (["-i", f"{CID}:/a/../b"], "without '..'"),
        (["-o", "outputs"], "NAME:/PATH"),
        (["-o", "../x:/x"], "NAME:/PATH"),
        (["-p", "estuary"], "publisher 'estuary' is not supported: use ipfs"),
        (["--network", "http"], "network http is not supported"),
        (["-s", "a>1"], "is no constraint"),
        (["-e", "=x"], "is no environment variable"),
        (["-l", "=x"], "has no key"),
    ],
)
def test_values_that_cannot_be_used_are_refused(words: list[str], says: str) -> None:
    args = main.parser("docker").parse_args(["docker", "run", *words, "ubuntu"])
    with pytest.raises(UsageFailure) as refused:
        docker.spec_of(args)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (CID, "/inputs"),
        (f"{CID}:/files", "/files"),
        (f"{CID}:/files:ro", "/files"),
        (f"ipfs://{CID}", "/inputs"),
        (f"ipfs://{CID}:/data", "/data"),
        (f"src=ipfs://{CID},dst=/data", "/data"),
        (f"source={CID},target=/data", "/data"),
    ],
)
def test_inputs_by_cid_are_read_in_every_form(text: str, target: str) -> None:
    assert mounts.parse_input(text) == job_pb2.InputSource(cid=CID, target=target)


@pytest.mark.parametrize(
    "form", ["{0}", "{0}:/inputs", "file://{0}", "file://{0}:/inputs", "src=file://{0},dst=/inputs"]
)
def test_inputs_of_this_machine_are_read_in_every_form(form: str, tmp_path: Path) -> None:
    source = tmp_path / "a:b"
    source.touch()
    assert mounts.parse_input(form.format(source)) == job_pb2.InputSource(
        cid=f"file:{source}", target="/inputs"
    )


def test_selectors_are_read_as_kubernetes_has_them() -> None:
    read = constraints.parse_constraints("region=eu,disk in (nvme,ssd),zone!=b,gpu,!spot,tier notin (x,y)")
    assert [(item.key, item.operator, list(item.values)) for item in read] == [
        ("region", job_pb2.CONSTRAINT_OPERATOR_IN, ["eu"]),
        ("disk", job_pb2.CONSTRAINT_OPERATOR_IN, ["nvme", "ssd"]),
        ("zone", job_pb2.CONSTRAINT_OPERATOR_NOT_IN, ["b"]),
        ("gpu", job_pb2.CONSTRAINT_OPERATOR_EXISTS, []),
        ("spot", job_pb2.CONSTRAINT_OPERATOR_NOT_EXISTS, []),
        ("tier", job_pb2.CONSTRAINT_OPERATOR_NOT_IN, ["x", "y"]),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "--api-host h --api-port 7 docker run ubuntu",
        "docker run --api-port 7 --api-host h ubuntu",
        "list --api-host=h --api-port=7",
    ],
)
def test_address_may_stand_anywhere(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACALHAU_API_PORT", "9")
    address = address_of(main.parser(main._verb(line.split())).parse_args(line.split()))
    assert str(address) == "h:7"


@pytest.mark.parametrize("host", ["http://127.0.0.1", "127.0.0.1:1234", "node.example/api"])
def test_a_host_that_is_a_url_or_has_a_port_is_refused_with_what_to_write(host: str) -> None:
    done, _ = run_at(unused_port(), "--api-host", host, "id")
    assert done.returncode == 2
    assert f"{host!r} is no host (--api-host, BACALHAU_API_HOST)" in done.stderr


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_a_host_may_be_an_address_of_ipv6(host: str) -> None:
    words = ["--api-host", host, "--api-port", "7", "id"]
    assert str(address_of(main.parser("id").parse_args(words))) == "[::1]:7"


def test_serve_gives_the_node_plain_values() -> None:
    words = "serve --node-type=compute,requester --labels a=b,c=d --lease 2s --limit-job-cpu 1.5"
    words += " --accept-networked=true"
    args = main.parser("serve").parse_args(words.split())
    serve._check(args)
    assert args.node_type == ["compute", "requester"]
    assert args.labels == {"a": "b", "c": "d"}
    assert args.lease == 2_000_000
    assert args.limit_job_cpu == 1500
    assert args.accept_networked is True
    assert (args.host, args.api_port, args.peer_port) == ("127.0.0.1", 1234, 1235)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_at(port: int, *words: str) -> tuple[subprocess.CompletedProcess[str], float]:
    begun = time.monotonic()
    command = [sys.executable, "-m", "bacalhau", *words]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(port),
        cwd=REPOSITORY,
    )
    return done, time.monotonic() - begun


def test_no_node_there_is_said_at_once_with_what_to_do() -> None:
    port = unused_port()
    done, _ = run_at(port, "list")
    assert done.returncode == 125
    assert f"no node answers at 127.0.0.1:{port}: start one with `bacalhau serve`" in done.stderr
    assert "BACALHAU_API_HOST" in done.stderr


def test_somebody_there_who_never_answers_holds_nothing_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        done, seconds = run_at(silent.getsockname()[1], "list")
    assert done.returncode == 125
    assert "no node answers" in done.stderr
    assert seconds < 10  # the connection gives up after 1.5 s; the rest is a busy machine


@pytest.mark.parametrize("words", [["version", "--client"], ["list"]])
def test_cheap_verbs_load_nothing_heavy(words: list[str], scripted: ScriptedNode) -> None:
    script = (
        "import sys\n"
        "from bacalhau.cli.main import run\n"
        f"code = run({words!r})\n"
        "heavy = {'docker', 'wasmtime', 'rich', 'yaml', 'cryptography', 'nacl', 'libipld', 'shtab'}\n"
        "if 'version' in sys.argv: heavy |= {'grpc', 'google'}\n"
        "found = heavy & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(found)}' if found else code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True, text=True, timeout=60, check=False,
        env=environment(scripted.port), cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_is_made_for_each_shell(bacalhau: Command, shell: str) -> None:
    done = bacalhau("completion", shell)
    assert done.returncode == 0, done.stderr
    assert b"devstack" in done.stdout
    if shell == "bash":
        check = subprocess.run(
            ["bash", "-n"], input=done.stdout, capture_output=True, check=False, timeout=30
        )
        assert check.returncode == 0, check.stderr


def test_man_page_is_made_from_the_parser() -> None:
    manpage = importlib.import_module("argparse_manpage.manpage")
    page = str(manpage.Manpage(main.parser()))
    assert "docker run" in page
    assert "echo Hello World" in page


def test_output_that_nobody_reads_ends_quietly(scripted: ScriptedNode) -> None:
    scripted.script.jobs = [job_pb2.Job(id=f"j-{number:08}") for number in range(1000)]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bacalhau", "list", "-n", "1000"],
            stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False,
            env=environment(scripted.port), cwd=REPOSITORY,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_command_whose_stdout_is_closed_ends_quietly(scripted: ScriptedNode) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" -m bacalhau docker run -q ubuntu >&-', sys.executable],
        stderr=subprocess.PIPE, timeout=60, check=False, env=environment(scripted.port), cwd=REPOSITORY,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_before_the_command_line_is_read_ends_without_a_traceback() -> None:
    script = (
        "import bacalhau.cli.main as command\n"
        "def interrupted(argv):\n    raise KeyboardInterrupt\n"
        "command.run = interrupted\n"
        "command.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (130, b"")


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b'(module (func (export "_start")))', 0, "OK"),
        (b'(module (func (export "main")))', 125, "exports no function '_start' (it exports: main)"),
        (b"#!/bin/sh", 125, "is no WASM program"),
        (b"\0asm\1\0\0\0garbage", 125, "is no WASM program"),
    ],
)
def test_wasm_validate_says_what_is_wrong(
    bacalhau: Command, tmp_path: Path, content: bytes, code: int, says: str
) -> None:
    (tmp_path / "x.wasm").write_bytes(content)
    done = bacalhau("wasm", "validate", "x.wasm")
    assert done.returncode == code
    assert says in (done.stdout + done.stderr).decode()

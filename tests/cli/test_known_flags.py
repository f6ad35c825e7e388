"""Every verb and flag of Bacalhau v0.3.29 is taken, or refused by name with what to use instead."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from bacalhau.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = (
    "-g --gettimeout --local --wait --wait-timeout-secs --id-only --node-details --download -f --follow "
    "--raw --download-timeout-secs --output-dir --ipfs-swarm-addrs"
)
SELECTION = (
    "--job-selection-data-locality --job-selection-reject-stateless --job-selection-accept-networked "
    "--job-selection-probe-http --job-selection-probe-exec "
    "--disable-engine --disable-publisher --disable-verifier --disable-storage"
)
FLAGS = {
    "": "--api-host --api-port --log-mode",
    "docker run": "--engine --verifier -p --publisher -i --input -o --output-volumes -e --env -c --concurrency "
    "--confidence --min-bids --timeout --cpu --memory --gpu --network --domain --skip-syntax-checking --dry-run "
    f"-w --workdir -l --labels -s --selector --filplus {RUN}",
    "wasm run": "-s --verifier -p -c --confidence --min-bids --timeout --entry-point -i -e "
    f"-U --import-module-urls -I --import-module-volumes {RUN}",
    "wasm validate": "--entry-point",
    "create": f"--dry-run {RUN}",
    "list": "--id-filter --include-tag --exclude-tag --all -n --number --output --reverse --sort-by --wide "
    "--no-style --hide-header",
    "describe": "--spec --include-events --json",
    "get": "--raw --download-timeout-secs --output-dir --ipfs-swarm-addrs",
    "logs": "-f --follow",
    "cancel": "--quiet",
    "serve": "--node-type --peer --host --swarm-port --labels --ipfs-connect --ipfs-swarm-addr "
    "--private-internal-ipfs --limit-total-cpu --limit-total-memory --limit-total-gpu "
    "--limit-job-cpu --limit-job-memory --limit-job-gpu --job-execution-timeout-bypass-client-id "
    "--allow-listed-local-paths --filecoin-unsealed-path --estuary-api-key "
    "--lotus-storage-duration --lotus-path-directory --lotus-upload-directory --lotus-max-ping "
    f"{SELECTION}",
    "devstack": "--hybrid-nodes --requester-nodes --compute-nodes --bad-compute-actors --bad-requester-actors "
    "--noop --peer --lotus-node --simulator-addr --simulator-mode --public-ipfs --cpu-profiling-file "
    f"--memory-profiling-file --allow-listed-local-paths {SELECTION}",
    "id": "",
    "version": "--client -o --output",
    "validate": "--output-schema",
}
"""Of each verb, and of the command itself; --lotus-* of `serve` as v0.3.29 spells them out."""
VERBS_NOT_HERE = ("run python", "simulator")


def by_verb(parser: argparse.ArgumentParser, verb: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield verb, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from by_verb(below, f"{verb} {name}".strip())


def test_every_flag_of_v0_3_29_is_known_to_its_verb() -> None:
    parsers = dict(by_verb(main.parser()))
    known = {
        verb: {flag for action in parser._actions for flag in action.option_strings}
        for verb, parser in parsers.items()
    }
    missing = [
        (verb, flag) for verb, flags in FLAGS.items() for flag in flags.split() if flag not in known[verb]
    ]
    assert missing == []


@pytest.mark.parametrize("verb", VERBS_NOT_HERE)
def test_verbs_of_v0_3_29_that_are_not_here_are_refused_by_name(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main.run(["--api-port", "1", *verb.split()])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert f"bacalhau: {verb.split()[0]} is not supported: " in said
    assert "invalid choice" not in said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("devstack --requester-nodes 1", "use --nodes N"),
        ("devstack --bad-requester-actors 1", "use --bad-nodes K"),
        ("devstack --noop", "use `bacalhau simulate`"),
        ("devstack --noop=true", "use `bacalhau simulate`"),
        ("devstack --peer env", "`bacalhau serve --peer HOST:PORT`"),
        ("devstack --lotus-node", "published to IPFS"),
        ("devstack --simulator-addr x", "use `bacalhau simulate`"),
        ("devstack --simulator-mode", "use `bacalhau simulate`"),
        ("devstack --public-ipfs", "--ipfs-api URL"),
        ("devstack --cpu-profiling-file x", "use a profiler"),
        ("devstack --memory-profiling-file x", "use a profiler"),
        ("devstack --allow-listed-local-paths x", "-i ./FOLDER:/inputs"),
        ("devstack --disable-verifier x", "--disable-engine"),
        ("create --local job.yaml", "start a node here"),
        ("docker run --local ubuntu", "start a node here"),
        ("--log-mode json list", "commands write no log"),
        ("list --log-mode json", "commands write no log"),
    ],
)
def test_a_flag_that_is_refused_says_what_to_use_instead(
    line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main.run(line.split())
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "is not supported: " in said
    assert says in said


@pytest.mark.parametrize(
    "line",
    [
        "devstack --peer none --noop=false --bad-requester-actors 0",
        "--log-mode default list",
        "create --local=false x",
    ],
)
def test_values_of_refused_flags_that_change_nothing_are_taken(line: str) -> None:
    assert callable(main.parser().parse_args(line.split()).run)


@pytest.mark.parametrize(
    ("line", "says", "verb"),
    [
        (
            "serve --api-host 0.0.0.0",
            "--api-host 0.0.0.0 (did you mean --api-port or --peer-host or --host?)",
            "serve",
        ),
        ("list --out json", "--out json (did you mean --output?)", "list"),
        ("ipfs pin add --no-such-flag x", "--no-such-flag", "ipfs pin add"),
        ("cancel j-1 j-2", "j-2", "cancel"),
    ],
)
def test_what_is_not_known_is_an_error_of_its_verb_that_names_what_is_near(
    line: str, says: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main.run(line.split())
    assert left.value.code == 2
    told = f"bacalhau: unrecognized arguments: {says}\nTry `bacalhau {verb} --help`.\n"
    assert capsys.readouterr().err == told

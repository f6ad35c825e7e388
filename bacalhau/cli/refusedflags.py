"""Flags of the Go Bacalhau's `serve` and `devstack` that this one does not support, with what to use instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.cli.parsing import refuse

if TYPE_CHECKING:
    import argparse

_PUBLISHED = "results are published to IPFS"


def refuse_of_serve(parser: argparse.ArgumentParser) -> None:
    kubo = "give the RPC API of the Kubo node: --ipfs-api http://127.0.0.1:5001"
    refuse(parser, "--limit-total-gpu", "--limit-job-gpu", instead="nodes do not give GPUs to jobs yet")
    refuse(parser, "--ipfs-swarm-addr", "--ipfs-swarm-addrs", instead=kubo)
    refuse(parser, "--private-internal-ipfs", switch=True, instead="nodes exchange content by --peer only")
    refuse(
        parser,
        "--estuary-api-key",
        "--filecoin-unsealed-path",
        "--lotus-storage-duration",
        "--lotus-path-directory",
        "--lotus-upload-directory",
        "--lotus-max-ping",
        instead=_PUBLISHED,
    )
    refuse(parser, "--job-execution-timeout-bypass-client-id", instead="raise --max-timeout for everybody")
    refuse(parser, "--orchestrator", "--compute", switch=True, instead="use --node-type requester,compute")
    _refuse_of_both(parser)


def refuse_of_devstack(parser: argparse.ArgumentParser) -> None:
    refuse(parser, "--requester-nodes", instead="every node takes jobs: use --nodes N")
    refuse(
        parser,
        "--bad-requester-actors",
        harmless=("0",),
        instead="bad nodes do their work badly: use --bad-nodes K",
    )
    refuse(
        parser,
        "--peer",
        harmless=("none",),
        instead="join a node to the network with `bacalhau serve --peer HOST:PORT`",
    )
    simulate = "use `bacalhau simulate` for a market in which no job is run"
    refuse(parser, "--noop", "--simulator-mode", switch=True, instead=simulate)
    refuse(parser, "--simulator-addr", instead=simulate)
    refuse(parser, "--lotus-node", switch=True, instead=_PUBLISHED)
    refuse(
        parser,
        "--public-ipfs",
        switch=True,
        instead="use `bacalhau serve --ipfs-api URL` with a Kubo node that is part of the public network",
    )
    refuse(
        parser,
        "--cpu-profiling-file",
        "--memory-profiling-file",
        instead="use a profiler that attaches to the process of a node",
    )
    _refuse_of_both(parser)


def _refuse_of_both(parser: argparse.ArgumentParser) -> None:
    refuse(
        parser,
        "--job-selection-probe-http",
        instead="use --job-selection-probe-exec with a script that calls it",
    )
    refuse(
        parser, "--allow-listed-local-paths", instead="clients add local files as inputs: -i ./FOLDER:/inputs"
    )
    refuse(
        parser,
        "--disable-publisher",
        "--disable-verifier",
        "--disable-storage",
        instead="only engines can be disabled: --disable-engine",
    )

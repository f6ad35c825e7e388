"""The flags of every verb that submits a job: whether to wait, what to show, what to fetch."""

from __future__ import annotations

import argparse

from bacalhau.cli.parsing import add_switch, quantity, refuse, whole_number
from bacalhau.model import quantities


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """What happens when the job is submitted."""
    run = parser.add_argument_group("while it runs")
    add_switch(
        run, "--dry-run", help="print the job as a file that `bacalhau create` takes, and submit nothing"
    )
    add_switch(run, "--id-only", help="print the job's id alone on stdout, and do not wait")
    add_switch(run, "-d", "--detach", help="do not wait for the job to end")
    add_switch(
        run, "--wait", default=True, help="wait for the job to end (the default); --wait=false is --detach"
    )
    add_switch(run, "-f", "--follow", help="print the program's output as it comes; always on while waiting")
    run.add_argument(
        "--wait-timeout-secs",
        type=whole_number(0),
        default=0,
        metavar="SECONDS",
        help="stop waiting after so long; the job goes on (0: wait until it ends)",
    )
    add_switch(run, "--node-details", help="say which node bids, wins and runs the job by its full id")
    add_switch(run, "-q", "--quiet", help="print no progress; errors are printed still")
    run.add_argument("--request-id", default="", metavar="ID", help="the same id again submits no second job")
    refuse(run, "--local", switch=True, instead="start a node here with `bacalhau serve` and talk to it")
    fetch = parser.add_argument_group("the result")
    add_switch(fetch, "--download", help="fetch the result folder when the job has ended")
    add_fetch_flags(fetch)
    # v0.3.29 polled; WatchJob does not, and waits as long as --wait-timeout-secs says.
    fetch.add_argument("-g", "--gettimeout", type=whole_number(0), default=None, help=argparse.SUPPRESS)
    parser.set_defaults(request_id="")


def add_fetch_flags(fetch: argparse._ArgumentGroup) -> None:
    """Where a fetched result goes."""
    fetch.add_argument("--output-dir", metavar="FOLDER", help="where to (job-ID, made here)")
    add_switch(fetch, "--raw", help="the result folders as they are, each under its execution's id")
    fetch.add_argument(
        "--download-timeout-secs",
        type=quantity(quantities.parse_duration),
        default=0,
        metavar="SECONDS",
        help="give up fetching after so long (0: never)",
    )
    refuse(
        fetch,
        "--ipfs-swarm-addrs",
        instead="content comes through the node; let it know its peers: serve --peer",
    )

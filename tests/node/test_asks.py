"""The operator's programs: when they have answered, and what is left of them then."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import psutil
import pytest

from bacalhau.market.bidding import Ask
from bacalhau.node.asks import OUTPUT_SHOWN_MAX, Asks, Programs
from tests.builders import an_offer
from tests.node.live import running, until

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.market.bidding import Answers


async def answers_of(folder: Path, body: str) -> Answers:
    """What a probe with this shell code makes of an offer."""
    async with running(folder / "node") as node:
        programs = Programs(probe=f"sh -c {shlex.quote(body)}", timeout_us=20_000_000)
        asks = Asks(node.driver, node.contents, node.node_id, programs)
        return await asks.answers(an_offer(), Ask(inputs=False, probe=True))


@pytest.mark.parametrize(("code", "refusal"), [(0, None), (3, "no")])
async def test_a_probe_that_leaves_a_child_behind_answers_and_leaves_none(
    tmp_path: Path, code: int, refusal: str | None
) -> None:
    left = tmp_path / "left"
    answers = await answers_of(tmp_path, f"echo no; sleep 300 & echo $! > {left}; exit {code}")
    assert answers.probe_refusal == refusal
    child = int(left.read_text())
    await until(lambda: ended(child), "the child is gone")


async def test_a_child_that_has_left_the_group_holds_up_no_answer(tmp_path: Path) -> None:
    left = tmp_path / "left"
    detach = f"setsid sh -c 'echo $$ > {left}; exec sleep 300' & until [ -s {left} ]; do sleep 0.05; done"
    answers = await answers_of(tmp_path, f"{detach}; echo no; exit 3")
    psutil.Process(int(left.read_text())).kill()
    assert answers.probe_refusal == "no"


async def test_a_probe_reads_its_question_to_the_end_and_may_say_more_than_a_pipe_holds(
    tmp_path: Path,
) -> None:
    asked = tmp_path / "asked"
    answers = await answers_of(tmp_path, f"cat > {asked}; echo begins; head -c 300000 /dev/zero; exit 1")
    assert json.loads(asked.read_text())["offer"]["id"] == an_offer().id
    assert answers.probe_refusal is not None
    assert answers.probe_refusal.startswith("begins")
    assert len(answers.probe_refusal) == OUTPUT_SHOWN_MAX


def ended(pid: int) -> bool:
    """Also where it is still in the list of whoever has to take note of it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True

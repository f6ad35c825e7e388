"""Stories for the test world: a seed draws the nodes, the jobs and what goes wrong; then the faults stop,
and whatever was accepted has to come to its end."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from bacalhau.model.auction import AuctionTerms, ClearingRule, ScoringWeights
from bacalhau.model.job import SECOND_US, WasmTask
from bacalhau.model.resources import Resources
from bacalhau.model.verification import Verification, VerificationPolicy
from tests.builders import JOB_RESOURCES, MODULE, a_spec
from tests.scheduler.nodes import Honesty, Weather
from tests.scheduler.world import World

if TYPE_CHECKING:
    from tests.scheduler.nodes import Machines

FAULTS_US = 150 * SECOND_US
PATIENCE_US = 3 * 3600 * SECOND_US


def tell(seed: int, machines: Machines | None = None, *, compared: bool = False) -> World:
    """Runs the story of this seed to its end; raises AssertionError where a promise is broken. With `compared` the
    jobs compare their results, and some nodes cheat."""
    random = Random(seed)
    # Its own, so that a seed's other draws stay what they were.
    lots = Random(f"{seed} compared") if compared else None
    world = World(random, machines)
    for index in range(random.randint(1, 5) + (2 if compared else 0)):
        slots = random.randint(1, 3)
        capacity = Resources(
            JOB_RESOURCES.cpu_millicores * slots,
            JOB_RESOURCES.memory_bytes * slots,
            JOB_RESOURCES.disk_bytes * slots,
        )
        honesty = lots.choice(CHARACTERS) if lots is not None else Honesty.HONEST
        world.add_node(f"n{index}", capacity, 100 * random.randint(1, 3), honesty)
    world.weather = draw_weather(random)
    for number in range(random.randint(1, 8)):
        plan_job(world, random, tuple(ClearingRule)[number % len(ClearingRule)], lots)
    for _ in range(random.randint(0, 4)):
        plan_misfortune(world, random)
    for _ in range(random.randint(0, 3)):
        plan_settlement(world, random)
    world.run(FAULTS_US)
    world.weather = Weather()
    world.run(world.now + 60 * SECOND_US)
    for node_id in world.nodes:
        world.start(node_id)
    world.run(world.now + PATIENCE_US, done=world.settled)
    # What is still on its way, and bids that stand, have their time to expire.
    world.run(world.now + 60 * SECOND_US)
    world.check_settled()
    return world


def draw_weather(random: Random) -> Weather:
    return Weather(
        loss=random.choice((0, 0, 5, 30)),
        duplication=random.choice((0, 0, 30)),
        delay_max_us=random.choice((1_000, 50_000, 2 * SECOND_US)),
        straggling=random.choice((0, 0, 10)),
        late_wakes_us=random.choice((0, 0, 15 * SECOND_US)),
        crash_in_step=random.choice((0, 0, 3, 10)),
        node_faults=random.choice((0, 0, 20)),
    )


CHARACTERS = [Honesty.HONEST] * 6 + [honesty for honesty in Honesty if honesty is not Honesty.HONEST]


def draw_verification(random: Random) -> tuple[int, Verification]:
    """Count and verification of a job."""
    if random.randrange(3) == 0:
        return 1, Verification(VerificationPolicy.ADAPTIVE, 2)
    count = random.randint(2, 4)
    return count, Verification(VerificationPolicy.REPLICATED, random.randint(2, count))


def plan_job(world: World, random: Random, rule: ClearingRule, lots: Random | None = None) -> None:
    """A job under this rule, or under first price where it has no reserve and the rule needs one."""
    node_id = random.choice(tuple(world.nodes))
    spec = a_spec(
        task=random.choice((None, WasmTask(MODULE))),
        count=random.choice((1, 1, 1, 2, 3)),
        resources=random.choice((JOB_RESOURCES, Resources(500, 1, 1), Resources(2000, 1, 1))),
        queue_us=random.choice((None, None, None, 0, 20 * SECOND_US, 600 * SECOND_US, 600 * SECOND_US)),
        total_us=random.choice((None, None, None, 5 * SECOND_US, 200 * SECOND_US)),
        max_price_microcredits=random.choice((None, None, 150, 250)),
    )
    if spec.max_price_microcredits is not None or not rule.needs_reserve:
        spec = replace(spec, auction=AuctionTerms(rule, ScoringWeights(reputation_microcredits=1)))
    if lots is not None:
        count, verification = draw_verification(lots)
        spec = replace(spec, count=count, verification=verification)
    cancelled_after_us = random.choice((None,) * 9 + (10_000, SECOND_US, 30 * SECOND_US))

    def submit() -> None:
        job_id = world.submit(node_id, spec)
        if job_id is not None and cancelled_after_us is not None:
            world.after(cancelled_after_us, lambda: world.cancel(node_id, job_id))

    world.after(random.randrange(FAULTS_US * 4 // 5), submit)


def plan_settlement(world: World, random: Random) -> None:
    """A creditor is paid outside the system, maybe more than it is owed; refused where nothing ever was."""
    creditor_id, debtor_id = random.choice(tuple(world.nodes)), random.choice(tuple(world.nodes))
    amount = random.choice((1, 50, 10_000))
    world.after(random.randrange(FAULTS_US), lambda: world.settle(creditor_id, debtor_id, amount))


def plan_misfortune(world: World, random: Random) -> None:
    """A crash, a graceful stop, or a partition, each for some time."""
    node_id, other_id = random.choice(tuple(world.nodes)), random.choice(tuple(world.nodes))
    begins_us = random.randrange(FAULTS_US * 4 // 5)
    lasts_us = random.choice((SECOND_US, 10 * SECOND_US, 50 * SECOND_US))

    def part() -> None:
        world.weather.partitioned += ((node_id, other_id),)

    def heal() -> None:
        pairs = world.weather.partitioned
        world.weather.partitioned = tuple(pair for pair in pairs if pair != (node_id, other_id))

    match random.randrange(3):
        case 0:
            world.after(begins_us, lambda: world.crash(node_id))
            world.after(begins_us + lasts_us, lambda: world.start(node_id))
        case 1:
            world.after(begins_us, lambda: world.shut_down(node_id))
            world.after(begins_us + 2 * SECOND_US + lasts_us, lambda: world.start(node_id))
        case _ if node_id != other_id:
            world.after(begins_us, part)
            world.after(begins_us + lasts_us, heal)
        case _:
            pass

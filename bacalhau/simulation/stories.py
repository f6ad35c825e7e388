"""Stories of faults: a seed draws nodes, jobs and what goes wrong; then the faults stop, and whatever was accepted
has to come to its end.

    safety phase    faults of every kind; each step of each machine is checked
    liveness phase  calm weather, every node up: all jobs end, all capacity returns, all reports are answered
    trade           where nodes were restored from backups: each trades with all others, which gives back what it forgot

A seed tells the same story each time, also with broken machines: that is how the checkers are shown to work.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from bacalhau.market.credit import CreditPolicy
from bacalhau.market.pricing import FlatPrice
from bacalhau.model.auction import AuctionTerms, ClearingRule, ScoringWeights
from bacalhau.model.cid import DAG_PB, Cid
from bacalhau.model.job import (
    Constraint,
    ConstraintOperator,
    DockerTask,
    InputSource,
    JobSpec,
    Timeouts,
    WasmTask,
)
from bacalhau.model.market import ClaimedInput
from bacalhau.model.resources import Resources
from bacalhau.model.units import GIB, HOUR_US, SECOND_US
from bacalhau.model.verification import Verification, VerificationPolicy
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.config import ComputeConfig, RequesterConfig
from bacalhau.simulation.backups import back_up, restore
from bacalhau.simulation.checkers import Checkers
from bacalhau.simulation.honesty import Honesty
from bacalhau.simulation.loop import EventLoop
from bacalhau.simulation.profile import Machines, Profile, policy_of
from bacalhau.simulation.weather import Weather
from bacalhau.simulation.world import Plan, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.model.refusals import Refusal
    from bacalhau.simulation.backups import Backup
    from bacalhau.simulation.node import SimulatedNode

FAULTS_US = 150 * SECOND_US
PATIENCE_US = 3 * HOUR_US
_CALM_US = 60 * SECOND_US
_STEPS_AT_ONE_INSTANT_MAX = 10_000
_JOB_RESOURCES = Resources(cpu_millicores=1000, memory_bytes=GIB, disk_bytes=GIB)
_MODULE = Cid.of(DAG_PB, b"a module")
SHORT_LEASES = RequesterConfig(
    lease_us=3 * SECOND_US,
    award_timeout_us=SECOND_US,
    attempts_per_execution_max=8,
    reveal_timeout_us=7 * SECOND_US,
)


_WIDE_CREDIT = CreditPolicy(peer_limit_microcredits=10**6, unproven_limit_microcredits=10**6)
SHORT_CREDIT = CreditPolicy(peer_limit_microcredits=300, unproven_limit_microcredits=400)
_CHEATS = (
    Honesty.NEVER_COMPUTES,
    Honesty.COPIES,
    Honesty.CONCEALS,
    Honesty.SWITCHES,
    Honesty.INVENTS_VERDICTS,
)
_BONDS_PERMILLE = (0, 0, 200, 2000)
"""Half of the nodes stake nothing, some of the others more than they may ever earn."""
_CHARACTERS = (*[Honesty.HONEST] * 6, *_CHEATS)


class BrokenPromise(AssertionError):
    """A story in which a promise was broken; says its seed and how to see it again."""

    def __init__(self, seed: int, command: str, failure: AssertionError) -> None:
        super().__init__(f"seed {seed}: {failure}\nto see it again: {command}")
        self.seed = seed


@dataclass(slots=True)
class Story:
    """The world of a seed, and what was accepted in it: by job, the node that answered."""

    world: World
    checkers: Checkers
    random: Random
    accepted: dict[str, str] = field(default_factory=dict)


def tell(
    seed: int,
    machines: Machines | None = None,
    requester: RequesterConfig | None = None,
    *,
    compared: bool = False,
    credit: CreditPolicy | None = None,
    restored: bool = False,
) -> Story:
    """Runs the story of this seed to its end. With `compared` the jobs compare their results, some nodes cheat, and
    some stake a bond; `credit` is what nodes give; with `restored` some nodes are put back to a backup. Raises
    BrokenPromise."""
    flags = " --short-leases" * (requester is SHORT_LEASES) + " --compared" * compared
    flags += " --short-credit" * (credit is SHORT_CREDIT) + " --restored" * restored
    # Lots of their own, so that a seed's other draws are the same with and without them.
    lots = Random(f"lots {seed}") if compared else None
    try:
        machines, requester = machines or Machines(), requester or RequesterConfig()
        return _tell(seed, machines, requester, credit or _WIDE_CREDIT, lots, restored=restored)
    except AssertionError as failure:
        command = f"bacalhau simulate faults --seed {seed}{flags}"
        raise BrokenPromise(seed, command, failure) from failure


def _tell(
    seed: int,
    machines: Machines,
    requester: RequesterConfig,
    credit: CreditPolicy,
    lots: Random | None,
    *,
    restored: bool,
) -> Story:
    random = Random(f"story {seed}")
    world = World(
        seed,
        machines,
        loop=EventLoop(_STEPS_AT_ONE_INSTANT_MAX),
        keep_ended=True,
        programs_outlive=True,
        ask_us=1000,
        fetch_jitter_us=SECOND_US,
        restores=restored,
    )
    story = Story(world, Checkers(world), random)
    world.watch = story.checkers
    bonds = Random(f"bonds {seed}")
    for index in range(random.randint(1, 5) + (2 if lots is not None else 0)):
        profile = _draw_profile(random, requester, credit)
        if lots is not None:
            profile = replace(profile, honesty=lots.choice(_CHARACTERS))
            profile = _bonded(profile, bonds.choice(_BONDS_PERMILLE))
        world.add_node(f"n{index}", _labelled(profile, f"n{index}") if restored else profile)
    world.turn(draw_weather(random))
    world.begin_heartbeats()
    for number in range(random.randint(1, 8)):
        _plan_job(story, tuple(ClearingRule)[number % len(ClearingRule)], lots)
    for _ in range(random.randint(0, 5)):
        _plan_misfortune(story)
    for _ in range(random.randint(0, 3)):
        _plan_settlement(story)
    if restored:
        _plan_restores(story, Random(f"restores {seed}"), lots)
    world.loop.run(FAULTS_US)
    _calm_down(story)
    _come_to_rest(story)
    if restored:
        _trade(story)
        _come_to_rest(story)
    story.checkers.check_accepted(story.accepted)
    story.checkers.check_settled()
    return story


def _come_to_rest(story: Story) -> None:
    """All that was accepted ends; what is still on its way, and bids that stand, have their time to expire."""
    loop = story.world.loop
    loop.run(loop.now + PATIENCE_US, done=story.checkers.settled)
    loop.run(loop.now + _CALM_US)


def _calm_down(story: Story) -> None:
    """No more faults; what has begun still ends, and then every node is started."""
    world = story.world
    world.turn(Weather(jitter_us=_up_to(50_000)))
    for node in world.nodes.values():
        node.disk_full = False
    world.loop.run(world.loop.now + _CALM_US)
    for node in world.nodes.values():
        node.start()
        if node.compute is not None:
            node.tell_compute(ev.StorageChanged(False))


def _up_to(delay_us: int) -> Callable[[Random], int]:
    return lambda random: random.randrange(delay_us)


def _draw_profile(random: Random, requester: RequesterConfig, credit: CreditPolicy) -> Profile:
    slots, job = random.randint(1, 3), _JOB_RESOURCES
    capacity = Resources(job.cpu_millicores * slots, job.memory_bytes * slots, job.disk_bytes * slots)
    return Profile(
        compute=ComputeConfig(policy_of(capacity), credit=credit),
        requester=requester,
        pricing=FlatPrice(100 * random.randint(1, 3)),
        link_bytes_per_second=random.choice((0, 0, GIB // 64)),
    )


def _bonded(profile: Profile, permille: int) -> Profile:
    """The same node, whose bids name a bond of their price."""
    assert profile.compute is not None
    return replace(profile, compute=replace(profile.compute, bond_permille=permille))


def draw_weather(random: Random) -> Weather:
    """Of every kind of trouble mostly none, sometimes a little, sometimes much."""
    return Weather(
        jitter_us=_up_to(random.choice((1_000, 50_000, 2 * SECOND_US))),
        loss=random.choice((0, 0, 50, 300)),
        duplication=random.choice((0, 0, 300)),
        straggling=random.choice((0, 0, 100)),
        late_wakes_us=random.choice((0, 0, 15 * SECOND_US)),
        crashes=random.choice((0, 0, 3, 10)),
        commit_us=random.choice((0, 0, 0, 20_000, 2 * SECOND_US)),
        program_faults=random.choice((0, 0, 200)),
    )


def _draw_verification(random: Random) -> tuple[int, Verification]:
    """Count and verification of a job."""
    if random.randrange(3) == 0:
        return 1, Verification(VerificationPolicy.ADAPTIVE, 2)
    count = random.randint(2, 4)
    return count, Verification(VerificationPolicy.REPLICATED, random.randint(2, count))


def _plan_job(story: Story, rule: ClearingRule, lots: Random | None) -> None:
    """A job under this rule, or under first price where it has no ceiling and the rule needs one."""
    world, random = story.world, story.random
    node_id = random.choice(tuple(world.nodes))
    inputs = random.choice(((), (), (ClaimedInput(Cid.of(DAG_PB, b"an input"), GIB // 16),)))
    task = random.choice((DockerTask("busybox", command=("true",)), WasmTask(_MODULE)))
    spec = JobSpec(
        task=task,
        count=random.choice((1, 1, 1, 2, 3)),
        inputs=tuple(InputSource(claimed.cid, "/inputs") for claimed in inputs),
        resources=random.choice((_JOB_RESOURCES, Resources(500, 1, 1), Resources(2000, 1, 1))),
        timeouts=Timeouts(
            execution_us=150 * SECOND_US,
            queue_us=random.choice((None, None, None, 0, 20 * SECOND_US, 600 * SECOND_US, 600 * SECOND_US)),
            total_us=random.choice((None,) * 6 + (5 * SECOND_US, 200 * SECOND_US)),
        ),
        max_price_microcredits=random.choice((None, None, 150, 250)),
    )
    if spec.max_price_microcredits is not None or not rule.needs_reserve:
        spec = replace(spec, auction=AuctionTerms(rule, ScoringWeights(reputation_microcredits=1)))
    if lots is not None:
        count, verification = _draw_verification(lots)
        spec = replace(spec, count=count, verification=verification)
    if isinstance(task, WasmTask):
        inputs = (*inputs, ClaimedInput(_MODULE, 1000))
    run_us = random.choice((SECOND_US // 100, SECOND_US, 20 * SECOND_US, 100 * SECOND_US, 200 * SECOND_US))
    plan = Plan(spec, run_us, inputs, result_bytes=random.choice((100, GIB // 100)))
    cancelled_after_us = random.choice((None,) * 9 + (10_000, SECOND_US, 30 * SECOND_US))
    when_us = random.randrange(FAULTS_US * 4 // 5)
    world.loop.after(when_us, _submit, story, node_id, plan, cancelled_after_us)


def _submit(story: Story, node_id: str, plan: Plan, cancelled_after_us: int | None) -> None:
    world, job_id = story.world, story.world.new_id("j")
    world.submit(node_id, plan, job_id=job_id, answer=partial(_answered, story, node_id, job_id))
    if cancelled_after_us is not None:
        world.loop.after(cancelled_after_us, world.cancel, node_id, job_id)


def _answered(story: Story, node_id: str, job_id: str, refusal: Refusal | None) -> None:
    if refusal is None:
        story.accepted[job_id] = node_id


def _plan_settlement(story: Story) -> None:
    """A creditor is paid outside the system, maybe more than it is owed; refused where nothing ever was."""
    world, random = story.world, story.random
    creditor_id, debtor_id = random.choice(tuple(world.nodes)), random.choice(tuple(world.nodes))
    amount = random.choice((1, 50, 10_000))
    world.loop.after(random.randrange(FAULTS_US), _settle, story, creditor_id, debtor_id, amount)


def _settle(story: Story, creditor_id: str, debtor_id: str, amount: int) -> None:
    """The operator of a node that was restored waits until a receipt has gone between the two, as it is told to."""
    nodes = story.world.nodes
    if story.checkers.have_met(nodes[debtor_id], nodes[creditor_id]):
        story.world.settle(creditor_id, debtor_id, amount)


# --- misfortunes ---


def _plan_misfortune(story: Story) -> None:
    """A crash, a graceful stop, a partition, or a full disk, each for some time."""
    world, random = story.world, story.random
    node = random.choice(tuple(world.nodes.values()))
    other = random.choice(tuple(world.nodes.values()))
    begins_us = random.randrange(FAULTS_US * 4 // 5)
    ends_us = begins_us + random.choice((SECOND_US, 10 * SECOND_US, 50 * SECOND_US))
    at = world.loop.at
    match random.randrange(5):
        case 0:
            at(begins_us, node.crash)
            at(ends_us, node.start)
        case 1:
            at(begins_us, world.shut_down, node.id)
            at(ends_us + 2 * SECOND_US, node.start)
        case 2:
            at(begins_us, _storage, node, True)
            at(ends_us, _storage, node, False)
        case 3:
            at(begins_us, _fill_disk, node, True)
            at(ends_us, _fill_disk, node, False)
        case _ if node is not other:
            at(begins_us, _part, world, (node.id, other.id))
            at(ends_us, _heal, world, (node.id, other.id))
        case _:
            pass


def _storage(node: SimulatedNode, full: bool) -> None:
    """The disk has come down to its reserve, or has room again; a restarted node looks for itself."""
    if node.up:
        node.tell_compute(ev.StorageChanged(full))


def _fill_disk(node: SimulatedNode, full: bool) -> None:
    """Nothing can be committed until there is room again."""
    node.disk_full = full


def _part(world: World, pair: tuple[str, str]) -> None:
    weather = world.weather
    weather.partitioned += (pair,)
    world.turn(weather)


def _heal(world: World, pair: tuple[str, str]) -> None:
    weather = world.weather
    weather.partitioned = tuple(parted for parted in weather.partitioned if parted != pair)
    world.turn(weather)


# --- backups ---


def _plan_restores(story: Story, random: Random, lots: Random | None) -> None:
    """Backups are made early, and put back late; there is more to forget between, and it is drawn after all else, so
    that a seed's other draws are the same with and without."""
    world, loop = story.world, story.world.loop
    for number in range(8):
        _plan_job(story, tuple(ClearingRule)[number % len(ClearingRule)], lots)
    for _ in range(6):
        _plan_settlement(story)
    for _ in range(random.randint(1, 3)):
        node = random.choice(tuple(world.nodes.values()))
        backed_up_us = random.randrange(FAULTS_US * 3 // 5)
        restored_us = random.randrange(backed_up_us, FAULTS_US * 4 // 5)
        loop.at(backed_up_us, _back_up, story, node, restored_us)
        down_us = random.choice((None, SECOND_US, 20 * SECOND_US))
        if down_us is not None:  # else it is started when the faults have stopped
            loop.at(restored_us + down_us, node.start)


def _back_up(story: Story, node: SimulatedNode, restored_us: int) -> None:
    story.world.loop.at(restored_us, _restore, story, node, back_up(node))


def _restore(story: Story, node: SimulatedNode, backup: Backup) -> None:
    """Jobs that were submitted since the backup are gone, accepted or not."""
    restore(node, backup)
    for job_id in node.forgotten.jobs:
        story.accepted.pop(job_id, None)


def _labelled(profile: Profile, id: str) -> Profile:
    """The same node, which jobs can ask for by its id."""
    assert profile.compute is not None
    policy = replace(profile.compute.policy, labels=(("node", id),))
    return replace(profile, compute=replace(profile.compute, policy=policy))


def _trade(story: Story) -> None:
    """What operators are told to do after a restore: a job runs between each two, and only then is a payment recorded.
    They give each other the credit for it, and for what comes back."""
    world, nodes = story.world, story.world.nodes.values()
    pairs = [
        (buyer, seller)
        for buyer in nodes
        for seller in nodes
        if buyer is not seller and (buyer.restored or seller.restored)
    ]
    for number, (buyer, seller) in enumerate(pairs):
        seller.tell_compute(ev.PeerTrusted(buyer.id, 10**9))
        spec = JobSpec(
            task=DockerTask("busybox", command=("true",)),
            resources=Resources(500, 1, 1),
            timeouts=Timeouts(execution_us=150 * SECOND_US, queue_us=600 * SECOND_US),
            constraints=(Constraint("node", ConstraintOperator.IN, (seller.id,)),),
        )
        world.loop.after(number * SECOND_US, _submit, story, buyer.id, Plan(spec, SECOND_US), None)
    world.loop.run(world.loop.now + len(pairs) * SECOND_US)
    _come_to_rest(story)
    for buyer, seller in pairs:
        _settle(story, seller.id, buyer.id, 50)

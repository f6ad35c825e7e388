"""What the two machines are set up with, from the node's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.node.bidding import policy_of
from bacalhau.node.membership import HEARTBEATS_UNTIL_LOST
from bacalhau.scheduler.compute import ComputeConfig
from bacalhau.scheduler.requester import RequesterConfig

if TYPE_CHECKING:
    from bacalhau.config import Settings
    from bacalhau.model.resources import Resources


def requester_config(settings: Settings, node_id: str) -> RequesterConfig:
    return RequesterConfig(
        bid_window_us=settings.bid_window_us,
        lease_us=settings.lease_us,
        live_for_us=HEARTBEATS_UNTIL_LOST * settings.heartbeat_us,
        offer_sample=settings.offers_to,
        reveal_timeout_us=2 * settings.lease_us,
        min_reputation_ppm=settings.min_reputation_ppm,
        node_id=node_id,
        payment=settings.payment,
    )


def compute_config(settings: Settings, node_id: str, capacity: Resources) -> ComputeConfig:
    return ComputeConfig(
        policy=policy_of(settings, capacity),
        report_keep_us=settings.keep_results_us,
        min_reputation_ppm=settings.min_reputation_ppm,
        node_id=node_id,
        credit=settings.credit,
        bond_permille=settings.bond_permille,
    )

"""The model's enums carry the protocol's names and numbers."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from enum import Enum
from typing import TYPE_CHECKING

import pytest

import bacalhau.model
from bacalhau.model import auction, execution, job, ledger, refusals, reputation, verification
from bacalhau.v1 import (
    auction_pb2,
    execution_pb2,
    job_pb2,
    ledger_pb2,
    market_pb2,
    refusal_pb2,
    reputation_pb2,
    verification_pb2,
)

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

PAIRS: list[tuple[type[Enum], EnumTypeWrapper]] = [
    (refusals.RefusalReason, refusal_pb2.RefusalReason),
    (execution.FaultKind, execution_pb2.FaultKind),
    (execution.ExecutionState, execution_pb2.ExecutionState),
    (execution.ExecutionPhase, execution_pb2.ExecutionPhase),
    (job.NetworkMode, job_pb2.NetworkMode),
    (job.ConstraintOperator, job_pb2.ConstraintOperator),
    (job.JobState, job_pb2.JobState),
    (job.JobEventType, job_pb2.JobEventType),
    (job.Engine, market_pb2.Engine),
    (auction.ClearingRule, auction_pb2.ClearingRule),
    (auction.BidStanding, auction_pb2.BidStanding),
    (verification.VerificationPolicy, verification_pb2.VerificationPolicy),
    (reputation.Conduct, reputation_pb2.Conduct),
    (ledger.TradeSide, ledger_pb2.TradeSide),
    (ledger.TransactionKind, ledger_pb2.TransactionKind),
]


@pytest.mark.parametrize(("model", "proto"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_an_enum_has_the_names_and_numbers_of_the_protocol(model: type[Enum], proto: EnumTypeWrapper) -> None:
    prefix = "".join("_" + c if c.isupper() else c for c in model.__name__).strip("_").upper()
    expected = {name.removeprefix(f"{prefix}_"): number for name, number in proto.items()}
    assert expected.pop("UNSPECIFIED") == 0
    assert {member.name: member.value for member in model} == expected


def test_every_enum_of_the_model_is_compared() -> None:
    found = set()
    for module in pkgutil.iter_modules(bacalhau.model.__path__, "bacalhau.model."):
        for _, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            # An enum is one of the protocol where its file says that its numbers are.
            if issubclass(value, Enum) and value is not Enum and ".proto" in (value.__doc__ or ""):
                found.add(value)
    assert found == {model for model, _ in PAIRS}

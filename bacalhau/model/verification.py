"""Verification: how a job wants its results checked, and what a compute node says before it shows one."""

from __future__ import annotations

from enum import Enum
from typing import Final

from bacalhau.model.frozen import dataclass


class VerificationPolicy(Enum):
    """How a requester checks results; numbers are those of verification.proto."""

    NONE = 1
    REPLICATED = 2
    ADAPTIVE = 3


_NONE: Final = VerificationPolicy.NONE


@dataclass(frozen=True, slots=True)
class Verification:
    """What a job asks for. `confidence` is how many results have to agree, 0 where none are compared; exit code and
    outputs are always compared, stdout unless `ignore_stdout`, stderr never."""

    policy: VerificationPolicy = VerificationPolicy.NONE
    confidence: int = 0
    ignore_stdout: bool = False

    @property
    def compares(self) -> bool:
        """Results are committed to before they are revealed."""
        return self.policy is not _NONE


NO_VERIFICATION = Verification()


@dataclass(frozen=True, slots=True)
class ResultCommitment:
    """A node has a result, and is bound to it by `digest` (see market/verification.py) before it shows it."""

    execution_id: str
    attempt: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Compared:
    """What is compared of a result, computed from the published DAG: the digest, and the exit code that is in it."""

    digest: bytes
    exit_code: int

"""How a job's results are checked: the flags of `docker run` and `wasm run`, and the part of a job file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from bacalhau.cli.failures import UsageFailure
from bacalhau.cli.parsing import whole_number

if TYPE_CHECKING:
    from bacalhau.cli.jobfile_read import Field
    from bacalhau.v1.job_pb2 import JobSpec

_NAMES: Final = {
    "": "none",
    "none": "none",
    "noop": "none",
    "replicated": "replicated",
    "deterministic": "replicated",
    "adaptive": "adaptive",
}
"""Those of v0.3.29's verifiers among them."""
_IGNORED: Final = "stdout"


def add_verification_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how its results are checked")
    group.add_argument(
        "--verification",
        "--verifier",
        dest="verification",
        type=_policy,
        default="",
        metavar="{none,replicated,adaptive}",
        help="none (the default); replicated: the results of --count nodes are compared, and those that agree are "
        "paid; adaptive: one node, and a second one that checks it unless it has earned trust",
    )
    group.add_argument(
        "--confidence",
        type=whole_number(0, 10_000),
        default=0,
        metavar="N",
        help="how many results have to agree (more than half of --count); makes it replicated",
    )
    group.add_argument(
        "--verify-ignore",
        action="append",
        default=[],
        choices=(_IGNORED,),
        help="leave stdout out of what is compared: exit code, stdout and outputs, never stderr",
    )


def set_verification(args: argparse.Namespace, spec: JobSpec) -> None:
    """From the flags. Raises UsageFailure."""
    from bacalhau.v1.verification_pb2 import VERIFICATION_POLICY_NONE

    number = policy_number(args.verification or ("replicated" if args.confidence else "none"))
    if number != VERIFICATION_POLICY_NONE:
        spec.verification.policy = number
        spec.verification.confidence = args.confidence
        spec.verification.ignore_stdout = _IGNORED in args.verify_ignore
    elif args.verify_ignore or args.confidence:
        raise UsageFailure("nothing is compared without --verification replicated or adaptive")


def policy_number(name: str) -> Any:
    """A policy's name, as here or as the verifiers of v0.3.29, as its enum's number. Raises UsageFailure."""
    from bacalhau.v1.verification_pb2 import VerificationPolicy

    proper = _NAMES.get(name.lower())
    if proper is None:
        raise UsageFailure(f"{name!r} is no way of verification: use none, replicated or adaptive")
    return VerificationPolicy.Value(f"VERIFICATION_POLICY_{proper.upper()}")


def _policy(text: str) -> str:
    try:
        policy_number(text)
    except UsageFailure as failure:
        raise argparse.ArgumentTypeError(str(failure)) from failure
    return text


def read_verification(field: Field, spec: JobSpec) -> None:
    """From a job file's mapping. Raises JobFileFailure."""
    from bacalhau.v1.verification_pb2 import VERIFICATION_POLICY_NONE

    fields = field.known("Policy", "Confidence", "Ignore")
    if "Policy" not in fields:
        raise field.failure("has no Policy: write none, replicated or adaptive")
    number = fields["Policy"].parsed(policy_number)
    confidence = fields["Confidence"].integer(0, 10_000) if "Confidence" in fields else 0
    ignored = fields["Ignore"].items() if "Ignore" in fields else []
    for item in ignored:
        if item.text().lower() != _IGNORED:
            raise item.failure("only stdout can be left out; stderr always is")
    if number == VERIFICATION_POLICY_NONE:
        if confidence or ignored:
            raise field.failure("compares nothing with Policy none: write replicated or adaptive")
        return
    spec.verification.policy = number
    spec.verification.confidence = confidence
    spec.verification.ignore_stdout = bool(ignored)


def plain_verification(spec: JobSpec) -> dict[str, Any]:
    """As a job file has it; empty where nothing is compared."""
    from bacalhau.v1 import verification_pb2

    policies: dict[int, str] = {
        verification_pb2.VERIFICATION_POLICY_REPLICATED: "replicated",
        verification_pb2.VERIFICATION_POLICY_ADAPTIVE: "adaptive",
    }
    verification = spec.verification
    if verification.policy not in policies:
        return {}
    plain: dict[str, Any] = {"Policy": policies[verification.policy]}
    if verification.confidence:
        plain["Confidence"] = verification.confidence
    if verification.ignore_stdout:
        plain["Ignore"] = [_IGNORED]
    return plain

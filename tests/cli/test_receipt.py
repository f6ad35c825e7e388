"""`bacalhau receipt verify`: with no node running, and with nothing imported that only a node needs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from google.protobuf.json_format import MessageToJson

from bacalhau.v1.envelope_pb2 import SignedEnvelope
from bacalhau.v1.ledger_pb2 import SignedReceipt
from bacalhau.wire.receipt import receipt_to_proto
from tests.cli.conftest import environment
from tests.wire.test_signed_receipt import RECEIPT, both

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bacalhau.model.ledger import Receipt

    Verify = Callable[..., subprocess.CompletedProcess[str]]


def written(receipt: Receipt) -> str:
    requester, node = both(receipt)
    message = SignedReceipt(
        requester=SignedEnvelope.FromString(requester),
        node=SignedEnvelope.FromString(node),
        receipt=receipt_to_proto(receipt),
    )
    return MessageToJson(message, preserving_proto_field_name=True)


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """Checks these texts as files; port 1 is nobody's."""

    def run(*texts: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        names = []
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.json").write_text(text)
            names.append(f"{number}.json")
        return subprocess.run(
            [sys.executable, "-m", "bacalhau", "receipt", "verify", *(names or ["-"])],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=tmp_path,
            env=environment(1),
        )

    return run


def test_a_receipt_is_proven_without_a_node(verify: Verify) -> None:
    done = verify(written(RECEIPT))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0.json: holds: e-1 paid 0.00001 of 0.0001 credits, signed by 12D3KooW")
    assert verify(stdin=written(RECEIPT)).returncode == 0


def test_what_does_not_hold_ends_with_1_and_says_why(verify: Verify) -> None:
    wrong = replace(RECEIPT, pay_microcredits=20, balance_microcredits=20)
    done = verify(written(RECEIPT), written(wrong))
    assert done.returncode == 1
    assert "1.json: the receipt is wrong: it pays 20 microcredits where its terms come to 10" in done.stderr
    gap = replace(RECEIPT, sequence=2, balance_microcredits=10, execution_id="e-2")
    done = verify(written(RECEIPT), written(gap))
    assert done.returncode == 1
    assert "the receipt 2 does not follow" in done.stderr


def test_the_part_for_reading_must_say_what_was_signed(verify: Verify) -> None:
    message = json.loads(written(RECEIPT))
    message["receipt"]["pay_microcredits"] = "1"
    done = verify(json.dumps(message))
    assert done.returncode == 1
    assert "is not what the two sides signed" in done.stderr


@pytest.mark.parametrize("text", ["", "{", '{"requester": 1}', "\x00"])
def test_a_file_that_is_no_receipt_is_a_usage_error(verify: Verify, text: str) -> None:
    done = verify(text)
    assert done.returncode == 2
    assert "is no receipt" in done.stderr


def test_an_empty_receipt_does_not_hold(verify: Verify) -> None:
    assert verify("{}", "[]").returncode == 1


def test_nothing_is_imported_that_only_a_node_needs(tmp_path: Path) -> None:
    (tmp_path / "receipt.json").write_text(written(RECEIPT))
    program = (
        "import sys; from bacalhau.cli.main import run; "
        "assert run(['receipt', 'verify', 'receipt.json']) == 0; "
        "print([name for name in ('grpc', 'docker', 'wasmtime', 'sqlite3', 'bacalhau.node', 'bacalhau.rpc') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=tmp_path,
        env=environment(1),
    )
    assert done.stdout.splitlines()[-1] == "[]"

"""Simulations from Python, as docs/simulation.md shows them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import bacalhau.simulation

DOCUMENT = Path(__file__).parents[2] / "docs" / "simulation.md"


def test_the_example_of_the_document_prints_a_price(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    exec(compile(example, str(DOCUMENT), "exec"), {})
    assert re.fullmatch(
        r"Estimate\(mean=0\.00\d+, half_width=0?\.?\d[\d.e-]*, runs=5\)\n", capsys.readouterr().out
    )


def test_what_programs_begin_with_is_in_the_package_and_loaded_when_it_is_used() -> None:
    assert all(getattr(bacalhau.simulation, name) for name in bacalhau.simulation.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        bacalhau.simulation.nothing  # noqa: B018
    code = (
        "import sys, bacalhau.simulation\n"
        "assert not [name for name in sys.modules if name.startswith('bacalhau.simulation.')]\n"
        "from bacalhau.simulation import run_all\n"
        "assert 'bacalhau.simulation.experiment' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

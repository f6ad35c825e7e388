"""One HTML page with everything about a scenario: figures, plots, and the scenario itself. It loads nothing."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

from bacalhau import __version__
from bacalhau.simulation.report.numbers import interval, number
from bacalhau.simulation.statistics import CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bacalhau.simulation.experiment import Result

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.about { color: #444; margin-top: .2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .15rem 1.2rem .15rem 0; border-bottom: 1px solid #e4e4e4; }
td.number, th.number { text-align: right; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1rem; }
img { width: 100%; height: auto; border: 1px solid #e4e4e4; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px; }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #e8e8e8; } .about { color: #aaa; } pre { background: #222; }
  th, td { border-color: #333; }
}
"""


def write_page(result: Result, scenario_text: str, pictures: Sequence[Path], path: Path) -> Path:
    """Raises OSError."""
    scenario, seeds = result.scenario, [run.seed for run in result.runs]
    shown = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    rows = "\n".join(
        f'<tr><td>{html.escape(name)}</td><td class="number">{number(found.mean)}</td>'
        f'<td class="number">{interval(found, len(seeds))}</td></tr>'
        for name, found in result.estimates().items()
    )
    plots = "\n".join(
        f'<img alt="{picture.stem}" src="data:image/png;base64,'
        f'{base64.b64encode(picture.read_bytes()).decode()}">'
        for picture in pictures
    )
    path.write_text(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(scenario.name)}, {shown}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head><body>
<h1>{html.escape(scenario.name)}</h1>
<p class="about">{html.escape(scenario.about)}</p>
<p>{shown}; bacalhau {__version__}; digest of the first run {result.runs[0].digest[:16]}.
Intervals are of {CONFIDENCE:.0%} confidence over the seeds; plots are of seed {seeds[0]}.</p>
<h2>Plots</h2><div class="plots">{plots}</div>
<h2>Figures</h2>
<table><tr><th>figure</th><th class="number">mean</th><th class="number">interval</th></tr>
{rows}</table>
<h2>Scenario</h2><pre>{html.escape(scenario_text)}</pre>
</body></html>
""",
        "utf-8",
    )
    return path

"""The tests of the network need the extra p2p."""

from __future__ import annotations

import importlib.util
import os

if importlib.util.find_spec("libp2p") is None and os.environ.get("BACALHAU_REQUIRE_PARTS") != "1":
    # Not even collected: the modules import libp2p. Where every part is required, that import fails them.
    collect_ignore_glob = ["*"]

"""Properties of the market are about results: on a busy machine none fails for the time that an example took."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("market", deadline=None)
settings.load_profile("market")

"""How long hypothesis looks for a counter-example: ``AIOPOOL_HYPOTHESIS=full`` is the night's run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

PROFILE = os.environ.get("AIOPOOL_HYPOTHESIS", "short")
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile("short", deadline=None, max_examples=100, suppress_health_check=SLOW)
settings.register_profile("full", deadline=None, max_examples=int(os.environ.get("N", "10000")), suppress_health_check=SLOW)
settings.load_profile(PROFILE)

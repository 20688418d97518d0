"""How long hypothesis looks for a counter-example: ``AIOPOOL_HYPOTHESIS=full`` is for a night, or a quarter of an hour.

The full setting can be run in pieces: ``AIOPOOL_EXAMPLES=1000``, with another ``--hypothesis-seed`` each.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

PROFILE = os.environ.get("AIOPOOL_HYPOTHESIS", "short")
FULL = int(os.environ.get("AIOPOOL_EXAMPLES", "10000"))
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile("short", deadline=None, max_examples=100, suppress_health_check=SLOW)
settings.register_profile("full", deadline=None, max_examples=FULL, database=None, suppress_health_check=SLOW)
settings.load_profile(PROFILE)

"""Two lengths of fuzzing: some seconds in every test run, twenty-five times as long in `make fuzz`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_CHECKS = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
for name, examples in (("short", 200), ("long", 5_000)):
    settings.register_profile(name, max_examples=examples, deadline=None, suppress_health_check=_CHECKS)
settings.load_profile(os.environ.get("CALLVAULT_FUZZ", "short"))

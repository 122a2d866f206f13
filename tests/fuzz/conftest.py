"""Two lengths of fuzzing: some seconds in every test run, twenty-five times as long in `make fuzz`."""

from __future__ import annotations

import os

from hypothesis import settings

for name, examples in (("short", 200), ("long", 5_000)):
    settings.register_profile(name, settings.get_profile("tests"), max_examples=examples)
settings.load_profile(os.environ.get("CALLVAULT_FUZZ", "short"))

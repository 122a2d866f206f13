"""A Chromium for the tests of the pages: the system's, else Debian's, else Playwright's own.

`make test` installs it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress

from lab.processes import Missing, program

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The path of the system's Chromium; None: use Playwright's own."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def install() -> int:
    """Install a Chromium if there is no other; returns an exit status."""
    if chromium():
        return 0
    print("Installing Chromium ...", file=sys.stderr)
    with suppress(Missing):
        program("chromium", "chromium")
        return 0
    own = [sys.executable, "-m", "playwright", "install", "chromium"]
    done = subprocess.run(own, capture_output=True, timeout=600, check=False)
    if done.returncode:
        print("Chromium could not be installed; on Debian run `apt-get install chromium`.", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(install())

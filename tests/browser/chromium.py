"""A Chromium for the tests of the pages: the system's, else Debian's, else Playwright's own.

The headless shell comes first. It is the same engine without the windows of a desktop, of which a whole Chromium draws one for
each context, although nobody sees it: a context with one page takes 0.15 s of CPU here, and 1.05 s there. `make test`
installs it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress

from lab.processes import Missing, program

_SHELL = "chromium-headless-shell"
_NAMES = (_SHELL, "chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The path of the system's Chromium; None: use Playwright's own."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def install() -> int:
    """Install a Chromium if there is no other; returns an exit status."""
    if chromium():
        return 0
    print("Installing Chromium ...", file=sys.stderr)
    for package in (_SHELL, "chromium"):  # Debian's older releases have only the second
        with suppress(Missing):
            program(package, package)
            return 0
    own = [sys.executable, "-m", "playwright", "install", "chromium"]
    done = subprocess.run(own, capture_output=True, timeout=600, check=False)
    if done.returncode:
        print("Chromium could not be installed; on Debian run `apt-get install chromium`.", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(install())

"""A Chromium for the tests of the pages: the system's, else Debian's, else Playwright's own.

`make test` installs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The path of the system's Chromium; None: use Playwright's own."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def put_there() -> int:
    """Install a Chromium if there is no other; returns an exit status."""
    if chromium():
        return 0
    print("Installing Chromium ...", file=sys.stderr)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, timeout=300, check=False)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        subprocess.run(install, capture_output=True, timeout=600, check=False)
    if chromium():
        return 0
    own = [sys.executable, "-m", "playwright", "install", "chromium"]
    done = subprocess.run(own, capture_output=True, timeout=600, check=False)
    if done.returncode:
        print("There is no Chromium: `apt-get install chromium`, or what brings one here.", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(put_there())

"""A Chromium for the tests of the pages: a headless shell, else the system's browser, else Playwright's own.

The shell has the same engine and no windows of its own, whose pages a whole browser renders beside each page: it takes
a third of the CPU. Playwright's own is one, too. `make test` installs it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import suppress

from lab.processes import Missing, program

_SHELL = "chromium-headless-shell"
_NAMES = (_SHELL, "chromium", "chromium-browser", "google-chrome")
# Chromium takes the last of such lists alone, so these repeat what Playwright asks for, as far as it concerns our pages.
_ENABLED = ("CDPScreenshotNewSurface", "NetworkServiceInProcess2")
_DISABLED = (
    *("RenderDocument", "AvoidUnnecessaryBeforeUnloadCheckSync", "HttpsUpgrades", "HttpsFirstBalancedModeAutoEnable"),
    *("MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect"),
    "OptimizationHints",
)
# Most pages live for a second: to compile their scripts well, to draw and to fetch in processes of their own, and to make a
# frame anew for each document, costs more than it gives. (Without threads for drawing, no frame is ever ready for a click.)
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
    *("--js-flags=--single-threaded,--no-opt", "--in-process-gpu", "--process-per-site", "--renderer-process-limit=1"),
    *(f"--enable-features={','.join(_ENABLED)}", f"--disable-features={','.join(_DISABLED)}"),
]


def chromium() -> str | None:
    """The path of the system's Chromium; None: use Playwright's own."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def install() -> int:
    """Install a Chromium, unless there is one and no headless shell can be installed; returns an exit status."""
    for name in (_SHELL, "chromium"):
        with suppress(Missing):
            program(name, name)
            return 0
        if chromium():
            return 0
    print("Installing Chromium ...", file=sys.stderr)
    own = [sys.executable, "-m", "playwright", "install", "chromium"]
    done = subprocess.run(own, capture_output=True, timeout=600, check=False)
    if done.returncode:
        print("Chromium could not be installed; on Debian run `apt-get install chromium`.", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(install())

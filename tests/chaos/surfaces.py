"""The problems that each surface of a running Callvault shows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence

import httpx


def conditions_on_surfaces(
    callvault: Callable[..., subprocess.CompletedProcess[str]], ports: Sequence[int]
) -> dict[str, set[str]]:
    """The kinds of conditions by surface. Receivers do not read the archive, so `archive-away` is left out.

    Args:
        callvault: runs a command of the product to its end.
        ports: of the receivers; one that does not answer is left out.
    """
    done = callvault("status", "--json")
    if not done.stdout:  # Redis is down: the command reports only that
        return {"status": {"redis-away"}}
    shown = {"status": {one["kind"] for one in json.loads(done.stdout)["conditions"]}}
    for port in ports:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
                ready, metrics = client.get("/readyz"), client.get("/metrics").text
                overview = client.get("/api/overview").json()
        except (httpx.HTTPError, ValueError):
            continue  # it was killed
        if ready.status_code != 200:
            continue
        shown[f"readyz of {port}"] = {one["kind"] for one in ready.json().get("conditions", [])}
        shown[f"overview of {port}"] = {one["kind"] for one in overview["conditions"]}
        counted = [line for line in metrics.splitlines() if line.startswith("callvault_conditions{")]
        shown[f"metrics of {port}"] = {
            line.partition('kind="')[2].partition('"')[0] for line in counted if not line.endswith(" 0.0")
        }
    return {surface: kinds - {"archive-away"} for surface, kinds in shown.items()}

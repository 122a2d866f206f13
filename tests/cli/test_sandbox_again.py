"""A sandbox started again on the same folder still matches the archive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.processes import callvault, run_callvault


def shown(memory: Path) -> tuple[dict[str, Any], str]:
    """The recordings of a sandbox at its start, by id, and the id of a call that it makes then."""
    with callvault(["sandbox", "--port", "0", "--json", "--memory", str(memory)], {}, "base_url") as process:
        facts = json.loads(next(line for line in process.output.splitlines() if "base_url" in line))
        headers = {"Authorization": f"Bearer {facts['api_key']}"}
        with httpx.Client(base_url=facts["base_url"], headers=headers, trust_env=False) as client:
            lists = [client.get(path).json()["data"] for path in ("/recordings", "/recording_transcriptions")]
            made = client.post(f"{facts['control_url']}/calls", json={"count": 1}).json()["recordings"][0]
        rows = [row for rows in lists for row in rows]
        return {row["id"]: {k: v for k, v in row.items() if k != "download_urls"} for row in rows}, made


def test_the_calls_of_its_start_keep_their_times_and_later_calls_have_new_ids(tmp_path: Path) -> None:
    first, made = shown(tmp_path / "sandbox.json")
    second, made_again = shown(tmp_path / "sandbox.json")
    assert len(first) == 9 and second == first
    assert made not in second and made_again not in {made, *first}


def test_up_keeps_them_with_its_data_folder(tmp_path: Path) -> None:
    kept = []
    for _ in range(2):
        with callvault(
            ["up", "--sandbox", "--port", "0"], {"CALLVAULT_DATA": str(tmp_path)}, "receiver  http://"
        ) as up:
            kept.append(json.loads((tmp_path / "sandbox.json").read_text()))
            assert up.stop() == 0
    assert [one["starts"] for one in kept] == [1, 2] and kept[0]["began_at"] == kept[1]["began_at"]


@pytest.mark.parametrize("held", ["{}", "[]", "nothing", None])
def test_an_unusable_memory_file_is_reported(tmp_path: Path, held: str | None) -> None:
    memory = tmp_path / "missing" / "sandbox.json"
    if held is not None:
        memory.parent.mkdir()
        memory.write_text(held)
    done = run_callvault(["sandbox", "--port", "0", "--memory", str(memory)])
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith(f"callvault: --memory: {memory}"), done.stderr


def test_an_address_that_cannot_be_bound_is_reported() -> None:
    done = run_callvault(["sandbox", "--host", "192.0.2.1", "--port", "8081"])
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("callvault: cannot listen on 192.0.2.1:8081: "), done.stderr

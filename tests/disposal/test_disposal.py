"""Disposal: what goes, what stays, what is recorded, and what a second run does."""

from __future__ import annotations

import json

from lab.processes import callvault_here
from tests.seals.small import SmallArchive
from tests.seals.test_same_verdict import by_script
from workers.disposal.run import Disposer
from workers.runtime import Runtime


def names_of(small: SmallArchive, folder: str) -> set[str]:
    root = small.root / folder
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


async def test_what_is_past_its_term_goes_and_stays_on_record(
    runtime: Runtime, small: SmallArchive, environment: dict[str, str]
) -> None:
    report = await Disposer(runtime).run()
    assert (report.stopped, report.stop, report.left) == (None, None, [])
    assert len(report.gone) == 8
    assert names_of(small, small.folder(5, "5-one")) == {"recording.json", "deleted.json", "disposed/00000001.json"}
    record = small.read(small.folder(5, "5-one") + "disposed/00000001.json")
    assert (record["rule"], record["rules_number"], record["goes"]) == ("default", 1, ["audio", "transcripts"])
    code, out = callvault_here(["verify", "--seals", "--json"], environment)
    verified = json.loads(out)
    assert (code, verified["problems"]) == (0, [])
    (line,) = verified["disposed"]
    assert (line["rule"], line["rules_number"], line["recordings"], line["objects"]) == ("default", 1, 8, 16)
    assert by_script(small.root) == (0, set())
    again = await Disposer(runtime).run()
    assert (again.gone, again.left, again.stopped) == ([], [], None)

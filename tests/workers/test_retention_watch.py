"""A file of retention rules that differs from those in force is noticed, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from archive import layout
from text.times import utc_now
from workers.looks import known_conditions
from workers.retention.apply import as_applied, put_applied
from workers.retention.file import read_rules_file
from workers.retention.watch import watch_rules
from workers.runtime import Runtime


@pytest.fixture
def file(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "retention.toml"
    environment["CALLVAULT_RETENTION_FILE"] = str(path)
    path.write_text('[default]\nkeep = "5 years"\n')
    return path


async def seen(runtime: Runtime) -> list[tuple[str, str]]:
    """The conditions about retention after a turn of the clock."""
    await watch_rules(runtime)
    found = await known_conditions(runtime.redis, runtime.settings)
    return [(one.kind, one.what) for one in found if one.kind.startswith("retention")]


async def test_a_file_that_differs_is_a_condition_until_it_is_applied_or_mended(file: Path, runtime: Runtime) -> None:
    never = "the rules of retention.toml were never applied, so everything is kept for ever"
    assert await seen(runtime) == [("retention-differs", never)]
    put_applied(runtime.archive, as_applied(read_rules_file(file), [], "Ann", utc_now()))
    assert await seen(runtime) == []
    file.write_text(
        '# a remark changes nothing\n[default]\nkeep = "60 months"\n[rules.a]\ntags = "x"\nkeep = "1 day"\n'
    )
    differs = "retention.toml differs from rules 1 in force: a, default"
    assert await seen(runtime) == [("retention-differs", differs)]
    file.write_text("[default]\nkeep = '5 yaers'\n")
    ((kind, what),) = await seen(runtime)
    assert (kind, "is not a period" in what) == ("retention-differs", True)
    file.unlink()
    ((kind, what),) = await seen(runtime)
    assert (kind, "No such file" in what) == ("retention-differs", True)
    file.write_text("# a remark changes nothing\n[default]\nkeep = '5y'\n")
    assert await seen(runtime) == []


async def test_rules_in_force_that_cannot_be_read_are_a_condition_until_they_are_restored(
    file: Path, runtime: Runtime, archive_folder: Path
) -> None:
    put_applied(runtime.archive, as_applied(read_rules_file(file), [], "Ann", utc_now()))
    path = archive_folder / layout.retention_key(1)
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:-20])
    ((kind, what),) = await seen(runtime)
    assert (kind, what.startswith("retention/00000001.json: not retention rules")) == ("retention-unreadable", True)
    path.write_bytes(whole)
    assert await seen(runtime) == []


async def test_rules_that_somebody_removed_from_the_archive_are_missed(
    file: Path, runtime: Runtime, archive_folder: Path
) -> None:
    """Without the last rules, those before them would count again at once, and may keep less."""
    put_applied(runtime.archive, as_applied(read_rules_file(file), [], "Ann", utc_now()))
    assert await seen(runtime) == []
    path = archive_folder / layout.retention_key(1)
    path.rename(archive_folder / "elsewhere")
    gone = "retention/00000001.json: missing; it was in the archive before"
    assert await seen(runtime) == [("retention-unreadable", gone)]
    (archive_folder / "elsewhere").rename(path)
    assert await seen(runtime) == []

"""The lifecycle rules of a bucket, the same for every store, and what they would do to an archive.

A rule may move audio to a cheaper class. It must delete nothing, and must leave the records where they can be read at once:
they are read daily, and a store that bills reads or small sizes makes them dearer there, not cheaper. Audio and its records
share a folder, so a rule tells them apart by size (S3), by the end of their name (Google), or by the tag that Callvault
writes with `CALLVAULT_OBJECT_LABELS=tags` (S3, Azure).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

AUDIO_TAG = ("kind", "audio")
LEAST_AUDIO_BYTES = 1024 * 1024  # no record in a recording's folder is so large: a transcript of a day has 500 KiB
AUDIO_ENDS = (".wav", ".mp3")
COLD_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE", "Archive"})  # cannot be read before a restore
_HARMLESS = "INTELLIGENT_TIERING"  # it leaves small objects at the price of STANDARD
_PROBES = "probe/"
_AUDIO_FOLDERS = ("recordings/", "media/")
_TAGS = frozenset({"kind", "connection_id", "channels", "day"})  # those that Callvault writes, and to audio only


def is_cold(archive_url: str, storage_class: str | None) -> bool:
    """Whether objects of a class cannot be read before a restore. Google gives those of ARCHIVE at once."""
    if storage_class is None or archive_url.startswith("gs://"):
        return False
    return storage_class.lower() in {name.lower() for name in COLD_CLASSES}


@dataclass(frozen=True)
class LifecycleRule:
    """A rule of a bucket that is switched on.

    Attributes:
        name: its id; empty if it has none.
        does: moves objects to `storage_class`, or deletes them.
        storage_class: the class they go to, as the store names it.
        after_days: of their age.
        prefixes: what the names of its objects begin with, in the bucket; empty: all.
        ends: what they end in; empty: all.
        tags: that its objects have.
        least_bytes: the smallest object it concerns.
    """

    name: str
    does: Literal["move", "delete"]
    storage_class: str = ""
    after_days: int | None = None
    prefixes: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    least_bytes: int = 0

    def __str__(self) -> str:
        what = f"rule {self.name!r}" if self.name else "a rule without a name"
        when = "" if self.after_days is None else f" after {self.after_days} d"
        return f"{what} {'deletes' if self.does == 'delete' else 'moves'}{when}"


class Harm(NamedTuple):
    """What a rule would do to an archive.

    Attributes:
        is_grave: whether objects would be lost, or could not be read at once.
        what: in one line.
        advice: what to do.
    """

    is_grave: bool
    what: str
    advice: str


def harms_of(rules: Iterable[LifecycleRule], prefix: str) -> list[Harm]:
    """What rules would do to the archive under a prefix of their bucket, the gravest first.

    Args:
        rules: of the bucket.
        prefix: of the archive, ending in a slash unless it is empty.
    """
    found = [harm for rule in rules if (harm := _harm_of(rule, prefix)) is not None]
    return sorted(found, key=lambda harm: not harm.is_grave)


def moves_audio(rule: LifecycleRule, prefix: str) -> bool:
    """Whether a rule moves audio of the archive to another class."""
    return rule.does == "move" and any(_reach_of(rule, f"{prefix}{folder}") for folder in _AUDIO_FOLDERS)


def _harm_of(rule: LifecycleRule, prefix: str) -> Harm | None:
    reach = _reach_of(rule, prefix)
    if not reach or all(one.startswith(prefix + _PROBES) for one in reach):
        return None
    if rule.does == "delete":
        advice = "limit it to a prefix outside the archive; see docs/stores.md"
        return Harm(True, f"{rule} what belongs to the archive", advice)
    if _is_of_audio(rule, prefix, reach) or rule.storage_class == _HARMLESS:
        return None
    is_grave = rule.storage_class in COLD_CLASSES
    why = "they must be readable at once" if is_grave else "they are read daily, so they cost more there"
    what = f"{rule} records too, to {rule.storage_class}; {why}"
    return Harm(is_grave, what, "limit it to audio; `callvault cost --rule` prints a rule that does")


def _reach_of(rule: LifecycleRule, prefix: str) -> list[str]:
    """What the names begin with that a rule reaches among those that begin with a prefix; empty if it reaches none."""
    if not set(rule.tags) <= _TAGS or rule.tags.get(AUDIO_TAG[0], AUDIO_TAG[1]) != AUDIO_TAG[1]:
        return []  # a tag that Callvault never writes
    wanted = rule.prefixes or ("",)
    return [max(one, prefix, key=len) for one in wanted if one.startswith(prefix) or prefix.startswith(one)]


def _is_of_audio(rule: LifecycleRule, prefix: str, reach: list[str]) -> bool:
    """Whether a rule leaves alone everything of the archive that is not audio."""
    if rule.tags or (rule.ends and set(rule.ends) <= set(AUDIO_ENDS)):
        return True  # only audio has tags
    # Manifests of seals and rows of the catalogue are large too, so size alone is not enough.
    folders = tuple(prefix + folder for folder in _AUDIO_FOLDERS)
    return rule.least_bytes >= LEAST_AUDIO_BYTES and all(one.startswith(folders) for one in reach)

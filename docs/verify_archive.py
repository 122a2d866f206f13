"""Checks an archive in a folder with Python 3.11 or newer and nothing else: `python3 verify_archive.py FOLDER`.

It reports the same problems as `callvault verify --seals --deep` without keys. It hashes every object, compares the objects
of a recording with its commit record and those of a sealed day with its seals, and checks the chain of seals. It does not
check signatures and time stamps, nor whether the retention rules gave what was disposed of the end that its record names.
Options: `--head HASH`, the SHA-256 of a seal that you kept elsewhere; `--seal-after HOURS`, if the service runs with another
CALLVAULT_SEAL_AFTER than two days.
"""

import argparse
import functools
import hashlib
import json
import re
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote

NOW = datetime.now(UTC)
LATE_HOURS = 48  # a late arrival is sealed within a day, if a worker runs
WAY_HOURS = 1  # a record may be stored this long after the time in it, and its day sealed in between
SLACK_HOURS = 24  # a seal may be this much later than --seal-after
IN_A_DAY = re.compile(
    r"(access-log|recordings|media|log-messages)/(19\d\d|2\d{3})/(\d\d)/(\d\d)/.+", re.ASCII | re.DOTALL
)
IN_A_RECORDING = re.compile(r"(recordings/\d{4}/\d\d/\d\d/([^/]+)/)(.+)", re.ASCII | re.DOTALL)
CUT = re.compile(r"[\w.~%-]{135}~[0-9a-f]{64}", re.ASCII)  # a name that was too long for a key
# What the keys in a recording's folder look like there, and other keys, by kind. A group is an encoded name.
IN_A_FOLDER = {
    "audio": r"(?:versions/([^/]+)/)?audio\.(?:wav|mp3)",
    "recording.json": r"(?:versions/([^/]+)/)?recording\.json",
    "erased.sig": r"erased\.sig",
    "disposed": r"disposed/[0-9]{1,18}\.json",
    "disposed.sig": r"disposed/[0-9]{1,18}\.sig",
    **{name: re.escape(name) for name in ("deleted.json", "gone.json", "not-archived.json", "erased.json")},
    **{name: rf"{name}/([^/]+)\.json" for name in ("transcriptions", "transcriptions-not-archived", "decisions")},
}
ELSEWHERE = {
    "decisions": r"decisions/(?:(?:recordings|connections)/([^/]+)|everything)/([^/]+)\.json",
    "duties": r"duties/([^/]+)/[0-9]{1,18}\.json",
    "damage": r"damage/([^/]+)/[0-9]{1,18}\.json",
    "transcribing": r"transcribing/([^/]+)\.json",
    "api-tokens": r"api-tokens/([^/]+)/[0-9]{1,18}\.json",
    "retention": r"retention/[0-9]{1,18}\.json",
    "cases": r"cases/([^/]+)/[0-9]{1,18}\.json",
    "log-messages": r"log-messages/[0-9]{4}/[0-9]{2}/[0-9]{2}/([^/]+)\.json",
    "access-log": r"access-log/[0-9]{4}/[0-9]{2}/[0-9]{2}/([0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-([0-9a-f]{16})\.jsonl",
}
MARK = {"size": (int, None), "etag": (str, None), "last_modified": (str, None)}
PROOF = {"by": {"checksum", "etag", "read-back"}, "algorithm": str, "value": str, "version": (str, None)}
OBJECT = {"key": str, "size": int, "sha256": str, "content_type": str, "proof": PROOF}
AUDIO = {"format": str, "channels": int, "sample_rate_hz": int, "duration_ms": int, "findings": [str]}
EARLIER_RECEIPT = {"recording_id": str, "objects": [OBJECT], "transcription_ids": [str], "confirmed_gone_at": str}
GONE = {"key": str, "size": int, "sha256": str}
TOKEN = {
    "id": str,
    "number": int,
    "state": {"live", "revoked"},
    "name": str,
    "role": str,
    "sha256": str,
    "ends_at": str,
    "by": str,
    "at": str,
}
NOT_ARCHIVED = {"recording_id": str, "answer": str, "why": str, "by": str, "at": str}
CASE_QUERY = dict.fromkeys(("number?", "since?", "until?", "connection?", "session?", "leg?", "id?"), (str, None))
EARLIER_DECISION = {"decision": {"hold", "release"}, "why": str, "at": str}
# The shape of each record, by name and schema. A shape is a type, a set of values, a tuple of alternatives, a list with
# the shape of its items, or a dict of fields. `?` marks an optional field, `*` stands for any field.
SHAPES = {
    "recording.json": {
        "callvault.recording/1": {
            "recording": dict,
            "objects": [OBJECT],
            "audio": AUDIO,
            "archived_at": str,
            "event_id": (str, None),
            "found_by": {"webhook", "reconcile", "backfill"},
            "sources?": {"*": MARK},
            "machine_clock?": str,
        }
    },
    "deleted.json": {
        "callvault.deletion/1": EARLIER_RECEIPT,
        "callvault.deletion/2": EARLIER_RECEIPT | {"seen_at": str, "asked_at": str},
    },
    "gone.json": {"callvault.gone/1": {"recording_id": str, "objects": [OBJECT], "found_gone_at": str}},
    "not-archived.json": {"callvault.not-archived/1": NOT_ARCHIVED | {"recording": dict}},
    "transcriptions-not-archived": {
        "callvault.transcription-not-archived/1": NOT_ARCHIVED | {"transcription_id": str, "transcription": dict}
    },
    "erased.json": {
        "callvault.erasure/1": {
            "recording_id": str,
            "objects": [GONE],
            "why": str,
            "by": str,
            "erased_at": str,
            "rule?": str,
            "rules_number?": int,
            "ended_at?": str,
        }
    },
    "disposed": {
        "callvault.disposal/1": {
            "recording_id": str,
            "number": int,
            "goes": [{"audio", "transcripts"}],
            "objects": [GONE],
            "why": str,
            "by": str,
            "rule": str,
            "rules_number": int,
            "ended_at": str,
            "disposed_at": str,
        }
    },
    "transcriptions": {"callvault.transcription/1": {"transcription": dict}},
    "decisions": {
        "callvault.decision/1": EARLIER_DECISION,
        "callvault.decision/2": {
            "id": str,
            "decision": {"hold", "release", "approve"},
            "scope": {"recording", "connection", "everything"},
            "subject": str,
            "why": str,
            "by": str,
            "at": str,
            "lifts?": [str],
            "findings?": [str],
        },
    },
    "duties": {
        "callvault.duties/1": {
            "unit": str,
            "number": int,
            "delete_originals": {"never", "verified"},
            "delete_after_seconds": (int, float),
            "hold_connections": [str],
            "transcriptions": str,
            "sealed_first": bool,
            "retired?": bool,
            "by": str,
            "at": str,
        }
    },
    "damage": {
        "callvault.damage/1": {
            "key": str,
            "number": int,
            "state": {"damaged", "missing", "whole"},
            "what": str,
            "found_by": str,
            "at": str,
        }
    },
    "transcribing": {"callvault.transcribing/1": {"connection_id": str}},
    "api-tokens": {
        "callvault.api-token/1": TOKEN,
        "callvault.api-token/2": TOKEN | {"connections?": [str], "numbers?": [str], "mask?": bool},
    },
    "retention": {
        "callvault.retention/1": {
            "number": int,
            "rules": [
                {
                    "name": str,
                    "connections?": [str],
                    "numbers?": [str],
                    "direction?": ({"inbound", "outbound"}, None),
                    "tags?": [str],
                    "channels?": (int, None),
                    "sources?": [str],
                    "keep": str,
                    "goes?": {"both", "audio", "transcripts"},
                    "stays?": {"metadata", "hashes"},
                }
            ],
            "zone": str,
            "grace_seconds": int,
            "file_sha256": str,
            "by": str,
            "at": str,
        }
    },
    "cases": {
        "callvault.case/1": {
            "id": str,
            "number": int,
            "state": {"open", "closed"},
            "name": str,
            "query": CASE_QUERY,
            "why": str,
            "by": str,
            "at": str,
        }
    },
    "archive.json": {
        "callvault.archive/1": {
            "id": str,
            "created_at": str,
            "by": str,
            "adopted": bool,
            "adopted_seals": int,
            "adopted_head": (str, None),
        }
    },
    "seal": {
        "callvault.seal/1": {
            "sequence": int,
            "day": str,
            "recordings": int,
            "transcriptions": int,
            "bytes": int,
            "manifest_sha256": str,
            "previous_sha256": (str, None),
            "reconciled_at": str,
            "sealed_at": str,
            "not_archived?": int,
            "void?": str,
        }
    },
}
NAMES_ITS_RECORDING = ("deleted.json", "gone.json", "not-archived.json", "transcriptions-not-archived")
NUMBERED = {"damage": ["key"], "api-tokens": ["id"], "cases": ["id"], "retention": []}  # the fields that a key contains
BESIDE = (*NAMES_ITS_RECORDING, "transcriptions", "decisions")
WRITTEN_AT = {  # the field with the time of writing
    "recording.json": "archived_at",
    "deleted.json": "confirmed_gone_at",
    "gone.json": "found_gone_at",
    "not-archived.json": "at",
    "transcriptions-not-archived": "at",
    "erased.json": "erased_at",
    "disposed": "disposed_at",
    "decisions": "at",
    "log-messages": "first_seen_at",
}


def fits(value, shape):
    """Whether a value has a shape."""
    if shape is None or isinstance(shape, type):
        is_number_for_bool = isinstance(value, bool) and shape is not bool
        return value is None if shape is None else isinstance(value, shape) and not is_number_for_bool
    if isinstance(shape, set):
        return isinstance(value, str) and value in shape
    if isinstance(shape, tuple):
        return any(fits(value, one) for one in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(one, shape[0]) for one in value)
    if not isinstance(value, dict):
        return False
    if "*" in shape:
        return all(fits(one, shape["*"]) for one in value.values())
    fields = ((name.removesuffix("?"), one, name.endswith("?")) for name, one in shape.items())
    return all(fits(value[name], one) if name in value else may_lack for name, one, may_lack in fields)


def read_record(data, name):
    """Parse a record of a given name; None if the bytes are not one."""
    try:
        said = json.loads(data.decode())
        schemas = SHAPES[name]
        default = next(iter(schemas)) if len(schemas) == 1 else None
        schema = said.get("schema", default)
        return said if isinstance(schema, str) and fits(said, schemas.get(schema, ())) else None
    except (ValueError, AttributeError, RecursionError):
        return None


def instant(text):
    """Parse a time as the archive writes it; ValueError if it is not one."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not an instant")
    found = datetime.fromisoformat(text.strip())
    if not 1900 <= found.year <= 2999:
        raise ValueError(f"year {found.year}")
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def encoded(name):
    """An id as keys contain it: percent-encoded; above 200 bytes cut, with its SHA-256 appended."""
    text = quote(name, safe="")
    if not text.strip("."):
        text = text.replace(".", "%2E") or "%00"
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return text if len(text) <= 200 else f"{text[:135]}~{digest}"


def is_ours(name):
    """Whether an encoded name is one that Callvault writes: another encoding of the same id is an unknown object."""
    return name.isascii() and bool(encoded(unquote(name)) == name or CUT.fullmatch(name))


def home_of(key):
    """The folder, the id and the rest of a key in a recording's folder; None for any other key."""
    found = IN_A_RECORDING.fullmatch(key)
    return found.groups() if found and day_of(key) and is_ours(found[2]) else None


def kind_of(key):
    """The kind of an object from its key; None for an unknown object."""
    home = home_of(key)
    for kind, pattern in (IN_A_FOLDER if home else ELSEWHERE).items():
        if found := re.fullmatch(pattern, home[2] if home else key):
            return kind if all(is_ours(name) for name in found.groups() if name) else None
    return None


def day_of(key):
    """The day in a key; None if it has none."""
    found = IN_A_DAY.fullmatch(key)
    try:
        return date(*map(int, found.groups()[1:])) if found else None
    except ValueError:
        return None


def escaped(name):
    """The name of a file as text, with escapes for bytes that are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Archive:
    """The files of an archive by key, and the problems found."""

    def __init__(self, root):
        paths = (path for path in root.rglob("*") if path.is_file())
        named = ((escaped(path.relative_to(root).as_posix()), path) for path in sorted(paths))
        self.paths = {key: path for key, path in named if not key.startswith(".incoming/")}
        self.problems = {}
        self.disposed = {}
        self.sha256 = functools.lru_cache(None)(self._sha256)

    def read(self, key):
        """The bytes of a key."""
        return self.paths[key].read_bytes()

    def _sha256(self, key):
        digest = hashlib.sha256()
        with self.paths[key].open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    def problem(self, kind, key, what):
        """Record a problem, once per kind and key."""
        self.problems.setdefault((kind, key), what)

    def record(self, key, name):
        """The record of a key; None, with a problem, if it is not of that kind."""
        said = read_record(self.read(key), name)
        if said is None:
            self.problem("damaged", key, "not a record of its kind")
        return said

    def commit_record(self, key, folder, recording_id):
        """The commit record of a key; None, with a problem, if it is invalid, of another recording or with objects elsewhere."""
        own = key[: -len("recording.json")]
        places = (own, "/") if own == folder else (own, f"{folder}audio.", "/")
        said = read_record(self.read(key), "recording.json")
        if said and said["objects"] and encoded(str(said["recording"].get("id"))) == recording_id:
            hashes = {row["key"]: row["sha256"] for row in said["objects"]}
            if all(name.startswith(places) for name in hashes):
                return said | {"hashes": hashes}
        self.problem("damaged", key, "not a commit record of its recording")
        return None


def folders_of(keys):
    """The keys of each recording, by folder and id."""
    folders = {}
    for key in keys:
        if home := home_of(key):
            folders.setdefault(home[:2], []).append(key)
    return folders


def commit_keys(keys):
    """The commit records of a recording and of its versions (other content that Telnyx showed under the same id)."""
    return sorted((key for key in keys if kind_of(key) == "recording.json"), key=lambda key: ("/versions/" in key, key))


def gone_of(archive, folder, recording_id, keys):
    """What was erased or disposed of: by key its SHA-256 and the key of the record that says so."""
    gone = {}
    records = [key for key in keys if kind_of(key) in ("erased.json", "disposed")]
    for key in sorted(records, key=lambda one: (kind_of(one) == "disposed", one)):
        said = archive.record(key, kind_of(key))
        if not said:
            continue
        if encoded(said["recording_id"]) != recording_id:
            archive.problem("damaged", key, "names another recording")
        elif kind_of(key) == "disposed" and key != f"{folder}disposed/{said['number']:08d}.json":
            archive.problem("damaged", key, "contains another disposal")
        else:
            rows = (row for row in said["objects"] if row["key"].startswith(folder))
            gone = {row["key"]: (row["sha256"], key) for row in rows} | gone  # the first record of an object counts
            check_rule(archive, key, said)
    return gone


@functools.lru_cache(None)
def rule_names(archive, key):
    """The names of the rules that a person applied; None if they cannot be read, which is a problem of its own."""
    try:
        return [row["name"] for row in json.loads(archive.read(key))["rules"]] if key in archive.paths else []
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def check_rule(archive, key, said):
    """Check a disposal against the rules that people applied, and count it: its rule must exist, and its term be over."""
    if "rule" not in said or "rules_number" not in said:
        return
    at, rule, number = said.get("disposed_at", said.get("erased_at")), said["rule"], said["rules_number"]
    try:
        if instant(at) < instant(said.get("ended_at")):
            archive.problem("erasure", key, f"disposed of at {at}, before the term ended at {said['ended_at']}")
    except ValueError:
        archive.problem("damaged", key, "contains a time that cannot be read")
        return
    names = rule_names(archive, f"retention/{number:08d}.json")
    if names is not None and rule not in names:
        archive.problem(
            "erasure", key, f"names the retention rule {rule!r} of applied rules {number}, which is missing"
        )
    counts = archive.disposed.setdefault((at[:10], number, rule), [0, 0])
    counts[0] += 1
    counts[1] += sum(row["key"] not in archive.paths for row in said["objects"])


def check_recordings(archive):
    """Check every recording against its commit records; returns the erased objects by key."""
    all_erased = {}
    for key in archive.paths:
        if key.startswith("recordings/") and not home_of(key):
            archive.problem("unknown", key, "not a key of the archive format")
    for (folder, recording_id), keys in folders_of(archive.paths).items():
        erased = gone_of(archive, folder, recording_id, keys)
        all_erased |= erased
        left, committed = set(keys), set()
        for key in commit_keys(keys):
            left.discard(key)
            record = archive.commit_record(key, folder, recording_id)
            place = key[: -len("recording.json")]
            if record is None:  # already reported; the audio beside it was committed
                left -= {f"{place}audio.wav", f"{place}audio.mp3"}
            else:
                committed.add(place)
                left -= record["hashes"].keys()
                check_objects(archive, record["hashes"], erased)
        own = f"{folder}recording.json"
        witnesses = {f"{folder}deleted.json", f"{folder}gone.json", *commit_keys(keys)}
        if own not in keys and own not in erased and witnesses & set(keys):
            archive.problem(
                "missing",
                own,
                "the commit record is missing, but a receipt or a version beside it shows that it existed",
            )
        records = {key for key in keys if kind_of(key) in ("erased.json", "disposed")}
        left -= records | {f"{key[:-5]}.sig" for key in records}
        for key in left:
            check_other(archive, folder, recording_id, key, committed)
    return all_erased


def count_not_archived(archive):
    """Count the recordings that are on record as not archived and have not arrived since. They are no damage."""
    folders = {home_of(key)[0] for key in archive.paths if kind_of(key) == "not-archived.json"}
    return sum(not {f"{one}recording.json", f"{one}erased.json"} & archive.paths.keys() for one in folders)


def check_objects(archive, hashes, erased):
    """Check the objects of a commit record; a key that begins with a slash is outside the archive."""
    for key, sha256 in hashes.items():
        if key in archive.paths:
            if archive.sha256(key) != sha256:
                archive.problem("damaged", key, "its commit record has another SHA-256")
        elif key in erased and erased[key][0] != sha256:
            archive.problem("erasure", erased[key][1], f"names another SHA-256 for {key}")
        elif key not in erased and not key.startswith("/"):
            archive.problem("missing", key, "named in the commit record, but missing")


def check_other(archive, folder, recording_id, key, committed):
    """Check an object that no commit record names."""
    kind = kind_of(key)
    if kind == "audio" and key[: key.rindex("/") + 1] not in committed:
        archive.problem("uncommitted", key, "the audio has no commit record")
    elif kind not in BESIDE:
        archive.problem("unknown", key, "no commit record lists it")
    else:
        said = archive.record(key, kind)
        if said and kind in NAMES_ITS_RECORDING and encoded(said["recording_id"]) != recording_id:
            archive.problem("damaged", key, "names another recording")
        if said and kind == "decisions" and "id" in said:
            check_copy(archive, key, said)


def check_copy(archive, key, said):
    """Compare the copy of a decision beside a recording with the one at the root, which counts."""
    of = {"recording": "recordings/", "connection": "connections/", "everything": "everything/"}[said["scope"]]
    subject = "" if said["scope"] == "everything" else encoded(said["subject"]) + "/"
    root = f"decisions/{of}{subject}{encoded(said['id'])}.json"
    if root not in archive.paths:
        archive.problem("missing", root, f"the decision is missing, but its copy exists ({key})")
    elif archive.sha256(root) != archive.sha256(key):
        archive.problem("damaged", root, f"the decision differs from its copy ({key})")


def walk_chain(archive, head):
    """Walk the chain; returns the seals with valid manifests, the hash of every seal, and the number after the last."""
    names = {}
    for key in archive.paths:
        if found := re.fullmatch(r"seals/([0-9]{10})\.(json|sha256|sig|tsr)", key):
            names.setdefault(int(found[1]), set()).add(found[2])
        elif key.startswith("seals/"):
            archive.problem("unlisted", key, "not a key of the archive format")
        elif found := re.fullmatch(r"catalogue/(?:.*/)?([0-9]+)(?:\.[^/]*)?", key):
            names.setdefault(int(found[1]), set())  # rows reveal a seal that was cut off the end
    good, hashes, before, expected = [], {}, None, 1
    last = max(names, default=0)
    for sequence in sorted(names):
        if sequence > expected:
            archive.problem("gap", f"seals/{expected:010d}.json", f"seals {expected} to {sequence - 1} are missing")
        is_next, expected = sequence == expected, sequence + 1
        key, manifest = f"seals/{sequence:010d}.json", f"seals/{sequence:010d}.sha256"
        again = "; if the archive was copied while a worker sealed, copy seals/ again" if sequence == last else ""
        if key not in archive.paths:  # a manifest is written before its seal
            archive.problem("gap", key, f"the seal is missing{again}")
            before = None
            continue
        hashes[sequence] = archive.sha256(key)
        seal = read_seal(archive, key, sequence)
        if seal and (before or sequence <= 1) and is_next and seal["previous_sha256"] != before:
            archive.problem("seal-altered", key, "does not contain the hash of the seal before it")
        before = hashes[sequence]
        if seal and manifest not in archive.paths:
            archive.problem("gap", manifest, f"the manifest of a seal is missing{again}")
        elif seal and archive.sha256(manifest) != seal["manifest_sha256"]:
            archive.problem("seal-altered", manifest, "does not match its seal")
        elif seal and "void" not in seal:  # a void seal only passes over its number
            good.append(seal)
    if head and head not in hashes.values():
        archive.problem("head", "seals/", f"no seal of this chain has the SHA-256 {head}")
    return good, hashes, expected


def read_seal(archive, key, sequence):
    """Parse a seal; None, with a problem, if it is not one."""
    seal = read_record(archive.read(key), "seal")
    try:
        if seal and seal["sequence"] == sequence:
            return seal | {"day": date.fromisoformat(seal["day"]), "compared": instant(seal["reconciled_at"])}
    except ValueError:
        pass
    archive.problem("seal-altered", key, "not a seal, or the seal of another number")
    return None


def check_days(archive, seals, erased):
    """Check the objects of sealed days against their seals; returns how many are listed and how many wait for one."""
    listed, compared, waiting = {}, {}, 0
    for seal in seals:
        compared[seal["day"]] = max(compared.get(seal["day"], seal["compared"]), seal["compared"])
        manifest = f"seals/{seal['sequence']:010d}.sha256"
        for line in archive.read(manifest).decode("utf-8", "replace").removesuffix("\n").split("\n"):
            if re.fullmatch(".{64}  .+", line):
                listed[line[66:]] = line[:64]
            elif line:
                archive.problem("seal-altered", manifest, "a line is not in the format of sha256sum")
    for key, sha256 in listed.items():
        if key in archive.paths:
            if archive.sha256(key) != sha256:
                archive.problem("damaged", key, "its seal has another SHA-256")
        elif key not in erased:
            archive.problem("missing", key, "listed by a seal, but missing")
        elif erased[key][0] != sha256:
            archive.problem("erasure", erased[key][1], f"names another SHA-256 for {key}")
    unlisted = [key for key in archive.paths if key not in listed and day_of(key) in compared]
    records = (key for key in unlisted if key.endswith((".json", ".jsonl")))
    late = {key for key in records if came_lately(archive, key, compared[day_of(key)])}
    for (folder, recording_id), keys in folders_of(late).items():  # the audio of a late commit record is late too
        for key in commit_keys(keys):
            record = archive.commit_record(key, folder, recording_id)
            late |= record["hashes"].keys() if record else set()
    for key in unlisted:
        is_signature = kind_of(key) in ("erased.sig", "disposed.sig")
        if key in late or (is_signature and f"{key[:-4]}.json" in archive.paths):
            waiting += 1
        else:
            archive.problem("unlisted", key, "its day is sealed, and no seal lists it")
    return len(listed), waiting


def came_lately(archive, key, compared=None):
    """Whether a record is too recent for a seal: written within two days, and after the seal of its day."""
    try:
        kind = kind_of(key)
        said = {} if kind == "access-log" else json.loads(archive.read(key))
        if kind == "transcriptions":
            text = said["transcription"].get("updated_at") or said["transcription"]["created_at"]
        else:  # the name of an object of the access log begins with the instant
            text = said[WRITTEN_AT[kind]] if kind != "access-log" else key.rpartition("/")[2].partition("-")[0]
        written = instant(text)
        is_late = compared is None or written >= compared - timedelta(hours=WAY_HOURS)
        return is_late and abs(NOW - written) < timedelta(hours=LATE_HOURS)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def check_identity(archive, seals, hashes, after_last):
    """Check the chain against archive.json; returns the day from which every day must have a seal."""
    if "archive.json" not in archive.paths or not (identity := archive.record("archive.json", "archive.json")):
        return None
    try:
        last, created = identity["adopted_seals"], instant(identity["created_at"])
        later = [instant(seal["sealed_at"]) for seal in seals if seal["sequence"] > last][:1]
    except ValueError:
        archive.problem("damaged", "archive.json", "contains a time that cannot be read")
        return None
    if after_last <= last:
        archive.problem("gap", f"seals/{after_last:010d}.json", f"seals {after_last} to {last} are missing")
    elif last and hashes.get(last, identity["adopted_head"]) != identity["adopted_head"]:
        archive.problem("seal-altered", f"seals/{last:010d}.json", "is not the seal that archive.json names")
    elif later and created > later[0] + timedelta(hours=1):
        archive.problem("damaged", "archive.json", "claims to be newer than seals that were made after it")
    return created.date()


def check_unsealed(archive, sealed, required_from, seal_after_hours):
    """Report days without the seal that is due: seals cut off the end of the chain leave no gap in it."""
    required_to = (NOW - timedelta(hours=seal_after_hours + SLACK_HOURS)).date() - timedelta(days=1)
    missing = set()
    for key in archive.paths:
        day = day_of(key)
        if day and day <= required_to and day not in sealed | missing and key.endswith(".json"):
            missing |= set() if came_lately(archive, key) else {day}
    day = required_from or required_to + timedelta(days=1)
    while day <= required_to:
        missing.add(day)
        day += timedelta(days=1)
    missing -= sealed
    for day in sorted(missing):  # one line per run of days
        if day - timedelta(days=1) not in missing:
            archive.problem(
                "unsealed", f"recordings/{day:%Y/%m/%d}/", f"no seal for {day} and the days directly after it"
            )


def check_root(archive):
    """Check the records that belong to no day."""
    for key in archive.paths:
        name = key.partition("/")[0]
        if "/" in key and name in ("decisions", "duties", "damage", "transcribing", "api-tokens", "retention", "cases"):
            if kind_of(key) is None:
                archive.problem("unknown", key, "not a key of the archive format")
                continue
            said = archive.record(key, name)
            if said and name == "decisions" and "id" in said and not key.endswith(f"/{encoded(str(said['id']))}.json"):
                archive.problem("damaged", key, "contains another decision")
            if said and name in NUMBERED:
                own = "".join(f"{encoded(said[field])}/" for field in NUMBERED[name])
                if key != f"{name}/{own}{said['number']:08d}.json":
                    archive.problem("damaged", key, "contains the record of another key")
    numbers = {int(key[10:-5]) for key in archive.paths if kind_of(key) == "retention"}
    for number in sorted(set(range(1, max(numbers, default=0))) - numbers):
        archive.problem("missing", f"retention/{number:08d}.json", "later retention rules exist")


def many(number: int, one: str, more: str = "") -> str:
    """A number with its noun."""
    return f"{number} {one if number == 1 else more or one + 's'}"


def main():
    """Verify, print every problem, and exit with status 1 if there is any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--head", help="SHA-256 of a seal that must be in the chain")
    parser.add_argument(
        "--seal-after", type=float, default=48, metavar="HOURS", help="CALLVAULT_SEAL_AFTER; default: 48"
    )
    options = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")
    if not options.folder.is_dir():
        parser.error(f"folder {options.folder} does not exist; check the path, and that its disk is mounted")
    archive = Archive(options.folder)
    if not any(re.match(r"archive\.json$|(recordings|seals)/", key) for key in archive.paths):
        parser.error(f"{options.folder} holds no archive (no archive.json, recordings/ or seals/); check the path")
    erased = check_recordings(archive)
    check_root(archive)
    seals, hashes, after_last = walk_chain(archive, options.head and options.head.lower())
    listed, waiting = check_days(archive, seals, erased)
    required_from = check_identity(archive, seals, hashes, after_last)
    check_unsealed(archive, {seal["day"] for seal in seals}, required_from, options.seal_after)
    lines = [f"{kind}: {key}: {what}" for (kind, key), what in archive.problems.items()]
    lines.append(f"{many(len(hashes), 'seal')}, {many(listed, 'object')}, {many(len(lines), 'problem')}")
    print("\n".join(lines))  # noqa: T201
    waits = many(waiting, "waits", "wait")
    sys.stderr.write(f"Seals list {listed} of {many(len(archive.paths), 'object')}; {waits} for the next seal. ")
    if not_archived := count_not_archived(archive):
        sys.stderr.write(f"Recorded as not archived, since Telnyx had no audio: {many(not_archived, 'recording')}. ")
    for (day, number, rule), (records, objects) in sorted(archive.disposed.items()):
        under = f"under rule {rule} of applied rules {number} on {day}"
        sys.stderr.write(f"Disposed of {under}: {many(objects, 'object')}, by {many(records, 'record')}. ")
    sys.stderr.write(
        "Not checked: signatures, time stamps, the ends that retention rules gave, and whether a whole recording is missing "
        "from a day without a seal.\n"
    )
    sys.exit(1 if archive.problems else 0)


if __name__ == "__main__":
    main()

"""What people and machines do to a running Callvault: holds, pauses, changed content, a wrong key, a disk away, a wrong clock.

The product's commands make each decision. From the moment a command answers, the sandbox's books must obey it.
"""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import redis

from lab.clock import SkewedServer
from lab.processes import run_callvault
from lab.servers import RunningSandbox
from sandbox.audio import Audio, make_mp3, make_wav
from sandbox.webhooks import recording_payload
from sandbox.world import Recording, now, text_of

_AHEAD_SECONDS = 3600
_NEWEST = 12
_MARGIN_SECONDS = 2.0  # a request that has left before a clock jumped may still arrive
# Telnyx deletes by id, so a change between the last check and the deletion stays unseen.
UNSEEN_SECONDS = 10.0


class Scenes:
    """What happens to one run, and what the books must show because of it.

    Args:
        folder: of the archive.
        sandbox: the provider, whose books decide.
        valkey: the Redis of all parts.
        environment: of a command.
        hooks: addresses of the receivers.
        rng: chooses what happens.
        seconds: how long a wrong key, a disk away and a wrong clock last.
        log: gets a line for each scene.
    """

    def __init__(
        self,
        folder: Path,
        sandbox: RunningSandbox,
        valkey: SkewedServer,
        environment: dict[str, str],
        hooks: list[str],
        *,
        rng: random.Random,
        seconds: float,
        log: Callable[[str], None],
    ) -> None:
        self.wrong: list[str] = []
        self.counts: dict[str, int] = {}
        self._folder, self._sandbox, self._valkey = folder, sandbox, valkey
        self._environment, self._hooks = environment, hooks
        self._rng, self._seconds, self._log = rng, seconds, log
        self._asked: set[str] = set()  # requested holds; each may have been written, whatever the command printed
        self._held: set[str] = set()  # those whose command has answered
        self._is_paused = False
        self._changed: dict[str, float] = {}  # recording id -> when
        self._approved: set[str] = set()
        self._over: dict[str, tuple[float, Callable[[], None]]] = {}  # a scene that lasts -> when it ends, and how
        self._clock_wrong_since: float | None = None
        self._unmounted_since: float | None = None
        self._lock = threading.Lock()
        self._commands = ThreadPoolExecutor(1)
        self._running: list[Future[None]] = []
        self._to_come = ["account", "unmount", "clock", "account"]
        self._aside = folder.with_name(folder.name + "-aside")

    @property
    def lasting(self) -> int:
        """How many lasting scenes are going on."""
        return len(self._over)

    # What is checked at each deletion.

    def why_kept(self, recording: Recording) -> str | None:
        """Why the original of a recording must not be deleted now; None if it may."""
        with self._lock:
            if recording.data["id"] in self._held:
                return "it is on hold"
            if self._is_paused:
                return "deletion is paused"
            if self._clock_wrong_since is not None and time.monotonic() - self._clock_wrong_since > _MARGIN_SECONDS:
                return "the clock of Redis is an hour ahead"
            if self._unmounted_since is not None and time.monotonic() - self._unmounted_since > _MARGIN_SECONDS:
                return "the archive's disk is away"
            return None

    @property
    def disk(self) -> Path:
        """Where the archive lies, mounted or not."""
        return self._aside if self._unmounted_since is not None else self._folder

    def changed_lately(self, recording: Recording) -> bool:
        """Whether its content changed so recently that the product may not have seen it."""
        return time.monotonic() - self._changed.get(recording.data["id"], -UNSEEN_SECONDS) < UNSEEN_SECONDS

    def has_changed(self, recording: Recording) -> bool:
        """Whether its content has ever changed."""
        return recording.data["id"] in self._changed

    # What happens.

    def happen(self) -> None:
        """Start a random scene; lasting ones come in turn, one at a time."""
        kinds: list[Callable[[], None]] = [*[self._hold] * 5, self._release, self._pause, self._change]
        if not self._over and self._to_come:
            kinds = [getattr(self, f"_{self._to_come.pop(0)}")]
        elif self._is_paused:
            kinds = [self._pause, self._hold]  # not for long: nothing else shows whether a hold is kept
        self._rng.choice(kinds)()

    @property
    def are_over(self) -> bool:
        """Whether each lasting scene has happened and ended."""
        return not self._to_come and not self._over

    def tend(self) -> None:
        """End lasting scenes whose time is over."""
        for name, (until, end) in list(self._over.items()):
            if time.monotonic() >= until:
                del self._over[name]
                end()
                self._log(f"over: {name}")

    def calm_down(self) -> None:
        """End all lasting scenes."""
        self._to_come.clear()
        for name, (_, end) in list(self._over.items()):
            self._over[name] = (0.0, end)
        self.tend()

    def let_go(self) -> bool:
        """Lift every hold and pause and approve changed content, as a person would; False: some is left."""
        self._running = [one for one in self._running if not one.done()]
        if self._running:
            return False
        for recording_id in sorted(self._asked):
            self._lift(recording_id)
        is_running = self._resume()
        for recording_id in sorted(self._changed.keys() - self._approved):
            if self.callvault("deletions", "approve", recording_id, "--why", "compared").returncode == 0:
                self._approved.add(recording_id)
        return is_running and not self._asked

    def close(self) -> None:
        """Wait for running commands, and start no more."""
        self._commands.shutdown(cancel_futures=True)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _recording(self, recording_id: str) -> Recording:
        return self._sandbox.world.recordings[recording_id]

    def _any_recording(self) -> Recording | None:
        """One of the newest recordings: the others are about to be deleted."""
        there = [one for one in list(self._sandbox.world.recordings.values()) if one.deleted_at is None]
        return self._rng.choice(there[-_NEWEST:]) if there else None

    def callvault(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the product to its end."""
        return run_callvault(list(arguments), self._environment, seconds=400)

    def _command(self, work: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                work()
            except subprocess.TimeoutExpired as error:
                self.wrong.append(f"a command does not end: {error}")

        if sum(not one.done() for one in self._running) < 3:
            self._running.append(self._commands.submit(run))

    def _hold(self) -> None:
        if (recording := self._any_recording()) is not None:
            self._command(lambda: self._hold_one(recording))

    def _hold_one(self, recording: Recording) -> None:
        recording_id = recording.data["id"]
        self._asked.add(recording_id)
        was_gone = recording.deleted_at is not None
        done = self.callvault("deletions", "hold", recording_id, "--why", "chaos")
        output = (done.stdout + done.stderr).strip()[-300:]
        self._log(f"hold: {output}")
        if done.returncode != 0:
            self._count("holds that came too late" if "too late" in output else "holds that failed")
            return
        is_gone = recording.deleted_at is not None
        is_unknown = was_gone and "unknown: " in output  # Telnyx could not be asked
        if (is_gone and "was already gone" in output) or is_unknown:
            self._count("holds of what had gone")
            return
        self._count("holds")
        with self._lock:
            self._held.add(recording_id)
        if recording.deleted_at is not None:
            self.wrong.append(f"{recording_id}: `hold` succeeded, and its original is gone: {done.stdout.strip()}")
            with self._lock:
                self._held.discard(recording_id)

    def _release(self) -> None:
        if self._asked:
            recording_id = self._rng.choice(sorted(self._asked))
            self._command(lambda: self._lift(recording_id))

    def _lift(self, recording_id: str) -> None:
        with self._lock:
            self._held.discard(recording_id)  # it may be deleted from the moment the command starts
        done = self.callvault("deletions", "release", recording_id, "--why", "chaos")
        if done.returncode == 0 or "nothing to release" in done.stderr:
            self._asked.discard(recording_id)
            self._count("releases")

    def _pause(self) -> None:
        self._command(self._resume if self._is_paused else self._pause_all)

    def _pause_all(self) -> None:
        if self.callvault("deletions", "pause", "--why", "chaos").returncode == 0:
            with self._lock:
                self._is_paused = True
            self._count("pauses")

    def _resume(self) -> bool:
        with self._lock:
            self._is_paused = False
        return self.callvault("deletions", "resume").returncode == 0

    def _change(self) -> None:
        """Other content under the same id, announced by another event."""
        recording = self._any_recording()
        if recording is None or recording.data["source"] != "call" or recording.data["id"] in self._changed:
            return
        recording_id = recording.data["id"]
        self._changed[recording_id] = time.monotonic()
        seconds, audio = self._rng.choice((3, 5)), dict[str, Audio]()
        for audio_format, first in recording.audio.items():
            make = make_mp3 if audio_format == "mp3" else make_wav
            audio[audio_format] = make(f"changed {recording_id}", seconds, first.channels)
        recording.audio = audio
        length = next(iter(audio.values())).duration_ms
        recording.data |= {"duration_millis": length, "updated_at": text_of(now())}
        payload = recording_payload(self._sandbox.world, recording)
        self._sandbox.control(
            "event", webhook_url=self._rng.choice(self._hooks), event_type="call.recording.saved", payload=payload
        )
        self._count("changed contents")
        self._log(f"changed {recording_id}")

    def _last(self, name: str, end: Callable[[], None]) -> None:
        self._over[name] = (time.monotonic() + self._seconds, end)
        self._count(name)
        self._log(f"begins: {name}")

    def _account(self) -> None:
        """The key of another account, or one that was revoked: 404 for everything, or 401."""
        fault = self._rng.choice(("other_account", "api_401"))
        self._sandbox.world.faults.change({fault: 1.0})
        self._last(fault, lambda: self._sandbox.world.faults.change({fault: 0.0}))

    def _unmount(self) -> None:
        """The archive's disk is unmounted, and its mount point is an empty folder."""
        self._folder.rename(self._aside)
        self._unmounted_since = time.monotonic()
        self._folder.mkdir()
        self._last("archive unmounted", self._mount)

    def _mount(self) -> None:
        hidden = self._folder.with_name(f"{self._folder.name}-hidden-{time.monotonic_ns()}")
        self._folder.rename(hidden)  # the disk hides what a job wrote there meanwhile, as on a real machine
        self._aside.rename(self._folder)
        self._unmounted_since = None

    def _clock(self) -> None:
        """Redis's clock is an hour ahead: everything due within the hour is due now."""
        with self._lock:
            self._clock_wrong_since = time.monotonic()
        self._valkey.clock.move(_AHEAD_SECONDS)
        self._last("redis an hour ahead", self._right_clock)

    def _right_clock(self) -> None:
        """Redis's clock is right again, and Redis is emptied: postponed work would come an hour late."""
        self._valkey.clock.move(0)
        time.sleep(0.3)
        with redis.Redis.from_url(self._valkey.url) as client:
            try:
                client.flushall()
            except redis.RedisError:
                self._log("redis was down when its clock was corrected")
        with self._lock:
            self._clock_wrong_since = None

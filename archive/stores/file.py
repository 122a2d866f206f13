"""`file:///path`: the archive as a folder. Objects appear whole, by a hard link from a temporary file on the same disk.

Only `create_place` creates the folder. If it is missing later (an unmounted disk leaves an empty mount point), every method
raises `StoreMissing`, and none reports a missing object.

A hard link is create-only on every POSIX file system (link(2) fails with EEXIST), so two writers cannot overwrite each
other; the data and then the folder's entry are flushed to disk before `put` returns.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from archive import layout
from archive.ahead import AT_ONCE
from archive.source import Source
from archive.stores.lifecycle import LifecycleRule
from archive.stores.store import (
    Asked,
    KeyExists,
    RestoreWish,
    StoredObject,
    StoreError,
    StoreMissing,
    StoreOptions,
    StoreRefused,
    Written,
    errors_as,
)

_CHUNK_BYTES = 1024 * 1024
_AHEAD_BYTES = 64 * 1024  # most records are smaller; the kernel looks through what is asked for, also behind the end
_OPEN_AHEAD = 8 if hasattr(os, "posix_fadvise") else 0  # several threads do so at once, and macOS allows 256 open files
_TEMPORARY = ".incoming"  # in the archive's root: the link must stay within one file system
_NO_KEYS = (_TEMPORARY, "lost+found")  # the second is at the root of a disk, and only root may read it
_NO_SEGMENTS = frozenset(("", ".", ".."))
_ORPHAN_SECONDS = 24 * 3600


class FileStore:
    """An archive in a folder of this machine or of a mounted disk."""

    # Where the disk reads ahead for each, more would only wait for each other.
    small_at_once = 4 if _OPEN_AHEAD else AT_ONCE

    def __init__(self, url: str, options: StoreOptions) -> None:
        self.url = url
        self.root = Path(unquote(urlsplit(url).path))
        self._incoming = self.root / _TEMPORARY
        self._file_mode = options.file_mode
        self._known_folders: set[Path] = set()

    def create_place(self) -> None:
        """See `Store.create_place`."""
        try:
            missing = [folder for folder in (self._incoming, *self._incoming.parents) if not folder.is_dir()]
            self._incoming.mkdir(parents=True, exist_ok=True)
            for folder in missing:
                _sync_folder(folder.parent)
        except OSError as error:
            raise StoreRefused(f"{self.url}: cannot create the folder ({error.strerror})") from error

    def probe(self) -> None:
        """See `Store.probe`. A folder checks nothing."""

    def put(self, key: str, source: Source, content_type: str, attributes: Mapping[str, str]) -> Written:
        """See `Store.put`. Content type and attributes are in the commit record; a file has none."""
        path = self._path(key)
        if path.exists():
            raise KeyExists(key)
        temporary = self._incoming / secrets.token_hex(16)
        with _errors_of(key):
            descriptor = self._open_new(temporary)
        try:
            for chunk in source.chunks():  # errors of the source pass unchanged
                with _errors_of(key):
                    _write_all(descriptor, chunk)
            with _errors_of(key):
                os.fsync(descriptor)
                _drop_from_cache(descriptor)
                self._make_folder(path.parent)
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    raise KeyExists(key) from None
                _sync_folder(path.parent)
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
        return Written(StoredObject(key, source.size))

    def stat(self, key: str) -> StoredObject | None:
        """See `Store.stat`. A file system keeps no checksum of its own."""
        with _errors_of(key):
            try:
                return StoredObject(key, self._path(key).stat().st_size)
            except (FileNotFoundError, NotADirectoryError):
                self._must_be_there()
                return None

    def ask_stat(self, key: str) -> Asked[StoredObject | None]:
        """See `Store.ask_stat`. A folder answers at once."""
        return partial(self.stat, key)

    def ask_free(self, key: str) -> Asked[StoredObject | None] | None:
        """See `Store.ask_free`. A hard link overwrites nothing."""
        return None

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `Store.read`. Bypasses the page cache if the system allows it."""
        with _errors_of(key):
            try:
                descriptor = os.open(self._path(key), os.O_RDONLY)
            except (FileNotFoundError, NotADirectoryError):
                self._must_be_there()
                raise KeyError(key) from None
        try:
            with _errors_of(key):
                _drop_from_cache(descriptor)
                size = os.fstat(descriptor).st_size
            # No more memory than there is to read: a record is a thousandth of a chunk.
            at_once = min(_CHUNK_BYTES, max(1, size - start))
            while end is None or start < end:
                with _errors_of(key):
                    chunk = os.pread(descriptor, at_once if end is None else min(at_once, end - start), start)
                if chunk:
                    yield chunk
                start += len(chunk)
                if not chunk or start == size:
                    return
        finally:
            os.close(descriptor)

    def read_small(self, keys: Sequence[str], limit: int) -> list[bytes | None]:
        """See `Store.read_small`. It has the disk read the next files meanwhile, so that it hardly sleeps for any.

        Sleeping for each of many small files costs more than their reading.
        """
        found: list[bytes | None] = []
        opened: deque[tuple[str, int | None]] = deque()
        try:
            for key in keys:
                opened.append((key, self._open_ahead(key, limit)))
                if len(opened) > _OPEN_AHEAD:
                    found.append(_read_and_close(*opened.popleft(), limit))
            while opened:
                found.append(_read_and_close(*opened.popleft(), limit))
        finally:
            for _, descriptor in opened:
                if descriptor is not None:
                    os.close(descriptor)
        return found

    def _open_ahead(self, key: str, limit: int) -> int | None:
        """Open a file and have the disk read it, past the page cache; None if it is not there."""
        try:
            descriptor = os.open(self._place(key), os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            with _errors_of(key):
                self._must_be_there()
            return None
        except OSError as error:
            raise _error_of(key, error) or error from error
        try:
            _drop_from_cache(descriptor)
            if _OPEN_AHEAD:
                os.posix_fadvise(descriptor, 0, min(limit, _AHEAD_BYTES), os.POSIX_FADV_WILLNEED)
        except OSError as error:
            os.close(descriptor)
            raise _error_of(key, error) or error from error
        return descriptor

    def restore(self, key: str, wish: RestoreWish) -> None:
        """See `Store.restore`. Every file can be read."""
        if self.stat(key) is None:
            raise KeyError(key)

    def lifecycle(self) -> tuple[LifecycleRule, ...] | None:
        """See `Store.lifecycle`. A folder has no rules."""
        return ()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See `Store.list`."""
        folder, slash, _ = prefix.rpartition("/")
        yield from self._walk(folder + slash, prefix)
        with _errors_of(prefix):
            self._must_be_there()  # if the folder vanished meanwhile, the listing is incomplete

    def _walk(self, above: str, prefix: str) -> Iterator[StoredObject]:
        """The objects in the folder whose keys begin with `above`, and in its subfolders.

        It keeps only the names of a folder in memory: a day may hold a hundred thousand.
        """
        root = f"{self.root}/"
        folders = [(above, iter(_names(root + above)))]
        while folders:
            above, names = folders[-1]
            for name in names:
                path = above + name
                key = path if path.isascii() else _text(path)
                if name[-1] == "/":
                    if key[:-1] not in _NO_KEYS and (prefix.startswith(key) or key.startswith(prefix)):
                        folders.append((path, iter(_names(root + path))))
                        break
                elif key.startswith(prefix) and (size := _size_of(root + path, key)) is not None:
                    yield StoredObject(key, size)
            else:
                folders.pop()

    def presign(self, key: str, seconds: int) -> str | None:
        """See `Store.presign`. A folder has no addresses."""
        return None

    def key_of(self, url: str) -> str | None:
        """See `Store.key_of`. Telnyx cannot write to a folder."""
        return None

    def locked_until(self, key: str) -> datetime | None:
        """See `Store.locked_until`. A folder has no locks."""
        return None

    def erase(self, key: str) -> None:
        """See `Store.erase`."""
        path = self._path(key)
        with _errors_of(key):
            path.unlink(missing_ok=True)
            self._must_be_there()
            if path.parent.is_dir():
                _sync_folder(path.parent)

    def remains(self, prefix: str) -> Sequence[str]:
        """See `Store.remains`. A file has no versions."""
        return ()

    def remove_orphans(self) -> int:
        """See `Store.remove_orphans`."""
        removed = 0
        with _errors_of(_TEMPORARY):
            self._must_be_there()
            entries = list(os.scandir(self._incoming)) if self._incoming.is_dir() else []
        for entry in entries:
            try:
                if not re.fullmatch(r"[0-9a-f]{32}", entry.name):
                    continue  # not a temporary file of ours
                if time.time() - entry.stat().st_mtime > _ORPHAN_SECONDS:
                    Path(entry.path).unlink()
                    removed += 1
            except OSError:
                continue
        return removed

    def _must_be_there(self) -> None:
        """Check that the archive's folder exists, by the entries that `create_place` and `callvault init` made in it.

        Raises:
            StoreMissing: the folder does not exist.
        """
        if not self._incoming.is_dir() and not (self.root / layout.IDENTITY_KEY).is_file():
            raise StoreMissing(f"{self.url}: the archive folder does not exist; check that its disk is mounted")

    def _open_new(self, temporary: Path) -> int:
        """Open a new temporary file. Its folder is created again if only that is missing, as in a copy of the archive."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            return os.open(temporary, flags, self._file_mode)
        except FileNotFoundError:
            self._must_be_there()
            self._incoming.mkdir(exist_ok=True)
            return os.open(temporary, flags, self._file_mode)

    def _path(self, key: str) -> Path:
        return Path(self._place(key))

    def _place(self, key: str) -> str:
        segments = key.split("/")
        if not _NO_SEGMENTS.isdisjoint(segments) or "\0" in key or segments[0] in _NO_KEYS:
            raise ValueError(f"not a valid key: {key!r}")
        return f"{self.root}/{key}"

    def _make_folder(self, folder: Path) -> None:
        """Create a folder and flush the entries that lead to it, even if another process has just created them.

        It remembers the folder, so that a day's folder is flushed once.
        """
        unknown = []
        while folder != self.root and not (folder in self._known_folders and folder.is_dir()):
            unknown.append(folder)
            folder = folder.parent
        for path in reversed(unknown):
            path.mkdir(exist_ok=True)
            _sync_folder(path.parent)
            if len(self._known_folders) > 10_000:
                self._known_folders.clear()
            self._known_folders.add(path)


def _errors_of(key: str) -> AbstractContextManager[None]:
    """Translate errors of the file system into store errors."""
    return errors_as(lambda error: _error_of(key, error))


def _error_of(key: str, error: Exception) -> Exception | None:
    if not isinstance(error, OSError):
        return None
    reason = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreRefused(f"{key}: {reason}; give the service write access to the archive folder")
    return StoreError(f"{key}: {reason}")


def _names(folder: str) -> list[str]:
    """The names in a folder, in the order of keys: the name of a subfolder counts with its slash."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in found]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _error_of(folder, error) or error from error
    names.sort(key=None if all(map(str.isascii, names)) else _text)
    return names


def _size_of(path: str, key: str) -> int | None:
    """The size in bytes; None if the file has been erased meanwhile."""
    try:
        return os.stat(path).st_size  # noqa: PTH116, a Path for each of millions takes longer than the call
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _error_of(key, error) or error from error


def _text(name: str) -> str:
    """A name as text, with escapes for bytes that are not UTF-8; no key of ours has such bytes."""
    if name.isascii():
        return name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _read_and_close(key: str, descriptor: int | None, limit: int) -> bytes | None:
    """The bytes of an open file from its start, up to a limit; None without a file."""
    if descriptor is None:
        return None
    try:
        wanted = min(os.fstat(descriptor).st_size, limit)
        data = os.pread(descriptor, wanted, 0)
        while len(data) < wanted and (more := os.pread(descriptor, wanted - len(data), len(data))):
            data += more
        return data
    except OSError as error:
        raise _error_of(key, error) or error from error
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _drop_from_cache(descriptor: int) -> None:
    """Make the next read come from the disk, if the system allows it (Linux; not macOS)."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Parts are read while others are sent, in bounded memory, and never after the upload has ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from archive.source import Source
from archive.stores.buffers import Buffers
from archive.stores.next_part import parts_ahead
from archive.stores.store import StoreOptions

SIZE = 100


@pytest.mark.parametrize("length", [SIZE, SIZE + 1, 2 * SIZE, 5 * SIZE, 5 * SIZE + 3])
@pytest.mark.parametrize("memory", [1, 2])
def test_the_parts_are_the_source(length: int, memory: int) -> None:
    data = bytes(range(256)) * 4
    source = Source(iter([data[:length]]))
    buffers = Buffers(StoreOptions(part_bytes=SIZE, buffer_bytes=SIZE * memory))
    with buffers.of(source):
        first = source.part(SIZE)
        parts = list(parts_ahead(first, source, SIZE, buffers))
    assert b"".join(parts) == data[:length]
    assert [len(part) for part in parts[:-1]] == [SIZE] * (len(parts) - 1)
    assert source.size == length
    with buffers.of(source):  # all memory is back
        assert buffers.take_another() == (memory == 2)


def test_the_next_part_comes_while_one_is_being_sent() -> None:
    third = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"a" * SIZE
        yield b"b" * SIZE
        third.set()
        yield b"c" * SIZE

    source = Source(chunks())
    buffers = Buffers(StoreOptions(part_bytes=SIZE, buffer_bytes=10 * SIZE))
    first = source.part(SIZE)
    with closing(parts_ahead(first, source, SIZE, buffers)) as parts:
        assert next(parts)[:1] == b"a"
        assert next(parts)[:1] == b"b"
        assert third.wait(10), "read before it was requested"
        assert next(parts)[:1] == b"c"


def test_an_error_of_the_stream_surfaces_and_a_broken_upload_stops_reading() -> None:
    class Broken(Exception):
        pass

    begun, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"a" * SIZE
        begun.set()
        assert gate.wait(10)
        ended.set()
        raise Broken

    buffers = Buffers(StoreOptions(part_bytes=SIZE, buffer_bytes=10 * SIZE))
    source = Source(chunks())
    parts = parts_ahead(source.part(SIZE), source, SIZE, buffers)
    assert next(parts)
    assert begun.wait(10)
    gate.set()
    with pytest.raises(Broken):
        next(parts)

    begun.clear()
    gate.clear()
    ended.clear()
    source = Source(chunks())
    parts = parts_ahead(source.part(SIZE), source, SIZE, buffers)
    assert next(parts)
    assert begun.wait(10)
    threading.Timer(0.1, gate.set).start()
    parts.close()
    assert ended.is_set()


def test_stalled_downloads_block_no_other() -> None:
    """Each overlapping upload has the memory for its next part."""
    goes_on = threading.Event()

    def stands_still() -> Iterator[bytes]:
        yield b"a" * SIZE
        assert goes_on.wait(30)

    buffers = Buffers(StoreOptions(part_bytes=SIZE, buffer_bytes=200 * SIZE))
    with ExitStack() as stack:
        for _ in range(60):
            source = Source(stands_still())
            parts = stack.enter_context(closing(parts_ahead(source.part(SIZE), source, SIZE, buffers)))
            assert next(parts)
        source = Source(iter([b"b" * SIZE, b"c"]))
        late = threading.Timer(20, goes_on.set)
        late.start()
        assert list(parts_ahead(source.part(SIZE), source, SIZE, buffers)) == [b"b" * SIZE, b"c"]
        late.cancel()
        assert not goes_on.is_set()
        goes_on.set()

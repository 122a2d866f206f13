"""Any search gives hits or one clear line; nothing reaches SQLite that it cannot parse."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, date
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.test_archive_objects import FOLDER, RECORD
from tests.fuzz.values import texts
from text.errors import UserError
from text.times import parse_day, parse_duration, parse_instant, parse_span
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.query import FIELDS, read_box, read_query
from workers.catalogue.reach import EVERYTHING
from workers.catalogue.search import search
from workers.catalogue.words import BadWords, indexed, marked, words_query

NAMES = tuple(FIELDS)
SYNTAX = st.text(alphabet='"*^():-+{}ANDORNEAT' + "'\\ aé\u0301٣", max_size=30)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("catalogue") / "catalogue.sqlite"
    made = Catalogue(path)
    made.apply(FOLDER + "recording.json", json.dumps(RECORD).encode())
    made.apply(FOLDER + "transcriptions/t.json", b'{"transcription": {"transcription_text": "a refund, please"}}')
    assert made.count() == 1
    made.close()
    yield path


@given(words=st.dictionaries(st.sampled_from(NAMES), st.one_of(texts, SYNTAX), max_size=4))
@example(words={"text": '"'})
@example(words={"text": "NEAR(a b"})
@example(words={"text": "a*"})
@example(words={"number": "+" + "9" * 300})
@example(words={"since": "9999-12-31", "until": "9999-12-31"})
@example(words={"min_duration": "99999999999999999999d"})
def test_a_query_finds_or_is_refused_in_one_line(words: dict[str, str], catalogue: Path) -> None:
    try:
        search(catalogue, read_query(words), EVERYTHING)
    except UserError as error:
        assert "\n" not in str(error)


@given(typed=st.one_of(texts, SYNTAX))
def test_any_typed_search_finds_or_is_refused_in_one_line(typed: str, catalogue: Path) -> None:
    with suppress(UserError):
        search(catalogue, read_query(read_box(typed)), EVERYTHING)


@given(
    st.one_of(
        texts, st.text(alphabet="0123456789-+:.TZ ", max_size=30), st.text(alphabet="0123456789hdms", max_size=12)
    )
)
@example("0001-01-01")
@example("9999-12-31")
@example("last year")
@example("2999-12")
@example("1900-01-01T00:00+14:00")
@example("9999 years")
def test_times_are_times_or_a_value_error(text: str) -> None:
    for read in (parse_duration, parse_instant, parse_day):
        with suppress(ValueError):
            read(text)
    with suppress(ValueError):
        parse_day(text, date(2026, 11, 25), at_end=True)
    for typed in (text, f"{text} ago"):
        for zone in (UTC, None):
            with suppress(ValueError):
                span = parse_span(typed, zone=zone)
                assert span.begin <= span.end and (span.days is None) == (span.begin == span.end)


SCRIPTS = st.text(
    st.one_of(
        st.sampled_from("abcßéÅİıſøŁ 東京都がﾃｽﾄかキ환불สวัสดีครับ हिन्दी שלום أُريد...\u0301\u3099\u200d'’-_,。、3月5"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)


@given(text=SCRIPTS, start=st.integers(0, 39), length=st.integers(1, 12))
@example(text="Straße", start=0, length=12)
@example(text="3月5日に", start=0, length=3)
def test_each_part_of_a_text_that_is_made_of_whole_words_is_found_and_marked(
    text: str, start: int, length: int
) -> None:
    parts = text.split()
    typed = " ".join(parts[start % len(parts) :][:length]) if parts else ""
    try:
        query = words_query(f'"{typed}"' if '"' not in typed else typed)
    except BadWords:
        return
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE VIRTUAL TABLE words USING fts5 (text, content='', tokenize='ascii')")
        db.execute("INSERT INTO words (rowid, text) VALUES (1, ?)", (indexed(text),))
        assert db.execute("SELECT rowid FROM words WHERE words MATCH ?", (query,)).fetchall() == [(1,)]
    shown = marked(text, typed)
    assert "\x02" in shown
    plain = shown.replace("\x02", "").replace("\x03", "")
    assert plain in "".join(c if c.isprintable() or not c.isascii() else " " for c in re.sub(r"[\x80-\x9f]", " ", text))

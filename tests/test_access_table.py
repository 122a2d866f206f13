"""The table of docs/access-log.md has every row of the pages and every command, and says what each really writes."""

from __future__ import annotations

import re
from pathlib import Path

from config.ask_why import ACTS
from docs.accesses import COMMANDS as LINES
from docs.accesses import entries
from service.ops.show import access_in_words

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs/access-log.md").read_text()


def test_every_row_and_every_command_has_an_entry_and_every_entry_a_row() -> None:
    """To mend it: add what is missing to docs/accesses.py, with the words that it writes or why it writes nothing."""
    assert len([*entries()]) > len(LINES)


def test_the_words_of_commands_are_written_by_commands() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "cli").glob("*.py"))
    for name, writes in LINES.items():
        for word in () if isinstance(writes, str) else writes:
            assert f'"{word}"' in sources, (name, word)


def test_every_word_is_explained_and_a_reason_is_asked_only_for_words_that_are_written() -> None:
    explained = set(re.findall(r"`([a-z-]+)`", "\n".join(re.findall(r"^\| (`[^|]+) \|", DOCUMENT, re.MULTILINE))))
    written = {word for _, _, writes in entries() if not isinstance(writes, str) for word in writes}
    for word in written:
        assert word.removesuffix("-group").removesuffix("-selected") in explained, word
    assert frozenset().union(*(act.covers for act in ACTS.values())) <= written | {"address"}


def test_the_page_says_each_word_as_a_sentence() -> None:
    """What was not done has its error instead, and what was sent stands beside its play."""
    written = {word for _, _, writes in entries() if not isinstance(writes, str) for word in writes}
    bare = {word for word in written - {"failed", "sent"} if access_in_words(word) == word}
    assert bare <= {"read"}

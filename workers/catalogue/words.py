"""What a person types to find words said in a call, as a query of SQLite's full text index."""

from __future__ import annotations

import re

_LONGEST = 500


class BadWords(ValueError):
    """A query that cannot be read; the text says why."""


def words_query(text: str) -> str:
    """Words that must all be there, `"phrases in quotes"`, and `begin*` for words that begin so.

    Nothing in it is a word of the index's own language: `refund OR 1` looks for three words.

    Raises:
        BadWords: a quote is not closed, or there is no word in it.
    """
    if len(text) > _LONGEST:
        raise BadWords(f"{len(text)} characters; {_LONGEST} at most")
    text = text.replace("\0", " ")  # where SQLite would see its end
    if text.count('"') % 2:
        raise BadWords(f"{text!r}: a quote is not closed")
    terms = []
    for phrase, word in re.findall(r'"([^"]*)"|([^\s"]+)', text):
        star = "*" if word.endswith("*") else ""
        term = (phrase or word).rstrip("*").strip()
        if re.search(r"\w", term):
            terms.append(f'"{term}"{star}')
    if not terms:
        raise BadWords(f"{text!r}: no word in it")
    return " ".join(terms)

"""Indexes the words of transcriptions, reads queries for them, and finds them in a text.

SQLite's full text index splits at blanks only (its `ascii` tokenizer); this module decides what a word is. It folds
letters, so that `strasse` finds `Straße` and `cafe` finds `Café`, composed or not. It indexes pairs of characters for
scripts without blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) and for Korean, whose words carry
endings, so that any part of a sentence is found: `東京都` as `東京 京都 都`.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache

from text.counts import many

_LONGEST = 500
_BEFORE, _LENGTH = 60, 200  # characters of text shown around the words that were searched for

_NO_ACCENTS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)
_NO_BLANKS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e80-\u0eff\u1000-\u1049\u1050-\u109f\u1100-\u11ff\u1780-\u17d3\u3005-\u3007\u3041-\u3096"
    "\u3099-\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7ff\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_ASCII_WORD = re.compile(r"[a-z0-9]+")


class BadWords(ValueError):
    """An invalid query; the text has the reason."""


# Made at their first use: to make them takes a tenth of a search by number, which needs none of them.


@cache
def _optional() -> re.Pattern[str]:
    """Marks that a person may leave out: accents, the points of Hebrew, the vowels and the stretching of Arabic."""
    return re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0640\u064b-\u065f\u0670]")


@cache
def _run() -> re.Pattern[str]:
    return re.compile(f"([{_NO_BLANKS}]+)")


@cache
def _marks() -> str:
    """Marks that are part of a word, such as the vowels of Hindi, including all marks outside the basic plane."""
    of_plane = (chr(n) for n in range(0x300, 0x1D00) if unicodedata.category(chr(n)).startswith("M"))
    return "".join(of_plane) + "\u3099\u309a"


@cache
def _word() -> re.Pattern[str]:
    return re.compile(rf"(?:[^\W_]|[{_marks()}])+")


@cache
def _cluster() -> re.Pattern[str]:
    return re.compile(rf"[\x00-\x7f]+(?![{_marks()}])|.[{_marks()}]*", re.DOTALL)


def indexed(text: str) -> str:
    """The words of a text in the form of the index, with blanks or ASCII punctuation between them."""
    folded = fold(text)
    if folded.isascii():
        return folded
    return " ".join(word for part in _parts(folded) for word in _pairs(part, is_last=False))


def words_query(text: str) -> str:
    """Translate typed words into a query of the index: all words must occur, `"phrases in quotes"`, `begin*`.

    Operators of the index have no meaning here: `refund OR 1` searches for three words.

    Raises:
        BadWords: a quote is not closed, no word is in it, or it has control characters.
    """
    return " ".join(f'"{" ".join(words)}"{"*" if is_begin else ""}' for words, is_begin in map(_term, _typed(text)))


def marked(text: str, query: str) -> str:
    """The words around those that were looked for; these stand between `\\x02` and `\\x03`, which `pieces` takes apart.

    Args:
        text: of a transcription; control characters in it become blanks.
        query: as typed, valid for `words_query`.
    """
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)
    folded, places = _folded_with_places(text)
    spans = sorted({span for typed in _typed(query) for span in _found(folded, typed)})
    start = max(0, places[spans[0][0]] - _BEFORE) if spans else 0
    start = start and (text.find(" ", start, start + _BEFORE // 2) + 1 or start)
    end = min(len(text), max(start + _LENGTH, places[spans[0][1]] if spans else 0))
    end = (
        text.rfind(" ", max(start + _LENGTH // 2, places[spans[0][1]] if spans else 0), end) if end < len(text) else end
    )
    end = end if end > 0 else min(len(text), start + _LENGTH)
    said, at = " ... " if start else "", start
    for first, behind in spans:
        begins, ends = places[first], places[behind]
        if begins >= at and ends <= end:
            said += f"{text[at:begins]}\x02{text[begins:ends]}\x03"
            at = ends
    return (said + text[at:end] + (" ... " if end < len(text) else "")).strip()


def places_of(text: str, query: str) -> list[tuple[int, int]]:
    """Where the words that are looked for stand in a text: the first character of each, and the one behind it.

    Raises:
        BadWords: the query is invalid.
    """
    folded, places = _folded_with_places(text)
    return sorted({(places[a], places[b]) for typed in _typed(query) for a, b in _found(folded, typed)})


def pieces(words: str) -> Iterator[tuple[str, bool]]:
    """The pieces of a text of `marked`, each with whether it was searched for."""
    for n, piece in enumerate(words.replace("\x03", "\x02").split("\x02")):
        yield piece, n % 2 == 1


def fold(text: str) -> str:
    """Remove from letters what people leave out or write in two ways: case, accents, width, ligatures, composition."""
    if text.isascii():
        return text.lower()
    plain = _optional().sub("", unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()))
    return unicodedata.normalize("NFC", plain.translate(_NO_ACCENTS))


def _typed(text: str) -> list[tuple[str, bool]]:
    """The typed phrases and words, folded, each with whether only its beginning was given."""
    if len(text) > _LONGEST:
        raise BadWords(f"{many(len(text), 'character')}; at most {_LONGEST} are allowed")
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n\r" for c in text):
        raise BadWords(f"{text!r} contains a control character")
    if text.count('"') % 2:
        raise BadWords(f"{text!r} has an unclosed quote")
    found = re.findall(r'"([^"]*)"|([^\s"]+)', text)
    terms = [(fold(phrase or word), word.endswith("*")) for phrase, word in found]
    if not (terms := [(folded, is_begin) for folded, is_begin in terms if _parts(folded)]):
        raise BadWords(f"{text!r} contains no word")
    return terms


def _term(typed: tuple[str, bool]) -> tuple[list[str], bool]:
    """The words of a phrase in the form of the index, and whether the last is only the beginning of one."""
    folded, is_begin = typed
    parts = _parts(folded)
    words = [word for n, part in enumerate(parts, 1) for word in _pairs(part, is_last=n == len(parts))]
    last = parts[-1]
    return words, (_is_without_blanks(last) and len(last) == 1) or (is_begin and not _is_without_blanks(last))


def _parts(folded: str) -> list[str]:
    """The words of a text, and its runs of characters of scripts without blanks."""
    if folded.isascii():
        return _ASCII_WORD.findall(folded)
    found: list[str] = []
    for n, piece in enumerate(_run().split(folded)):
        found += [piece] if n % 2 else _word().findall(piece)
    return found


def _is_without_blanks(part: str) -> bool:
    return not part.isascii() and re.match(f"[{_NO_BLANKS}]", part) is not None


def _pairs(part: str, *, is_last: bool) -> list[str]:
    """A word, or the pairs of characters of a run, with its last character unless more may follow in the text."""
    if not _is_without_blanks(part):
        return [part]
    pairs = [part[n : n + 2] for n in range(len(part) - 1)]
    return pairs if is_last and pairs else [*pairs, part[-1]]


def _found(folded: str, typed: tuple[str, bool]) -> list[tuple[int, int]]:
    """The positions of a phrase in a folded text."""
    phrase, is_begin = typed
    parts = _parts(phrase)
    between = rf"(?:[^\w{_marks()}]|_)"
    pattern = re.escape(parts[0])
    for before, part in itertools.pairwise(parts):
        pattern += between + ("*" if _is_without_blanks(before) or _is_without_blanks(part) else "+") + re.escape(part)
    if not _is_without_blanks(parts[0]):
        pattern = rf"(?<![^\W{_NO_BLANKS}_])" + pattern
    if not _is_without_blanks(parts[-1]):
        pattern += rf"[\w{_marks()}]*" if is_begin else rf"(?![^\W{_NO_BLANKS}_])"
    return [match.span() for match in re.finditer(pattern, folded)]


def _folded_with_places(text: str) -> tuple[str, list[int]]:
    """The folded text, and the position in the text of each of its characters and of its end."""
    pieces: list[str] = []
    places: list[int] = []
    for match in _cluster().finditer(text):
        piece, start = match.group(), match.start()
        folded = piece.lower() if piece.isascii() else _folded_cluster(piece)
        pieces.append(folded)
        places += range(start, match.end()) if piece.isascii() else [start] * len(folded)
    return "".join(pieces), [*places, len(text)]


@lru_cache(4096)
def _folded_cluster(cluster: str) -> str:
    return fold(cluster)

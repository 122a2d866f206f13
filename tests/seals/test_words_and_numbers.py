"""Searches find words of every script and numbers in every form."""

from __future__ import annotations

import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest

from text.numbers import BadNumber, address_of, digits_of, wanted_number
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.query import Query
from workers.catalogue.reach import EVERYTHING
from workers.catalogue.rows import Row
from workers.catalogue.search import search
from workers.catalogue.words import BadWords, marked, words_query

SAID = {
    "ja": "はい、東京都の請求書についてお電話しました。キャンセルをお願いします。",
    "mixed": "Telnyx社のAPIキーを3月5日に再発行してください。",
    "half": "ﾃｽﾄのｷｬﾝｾﾙです",
    "zh": "您好,我想申请退款,账单号码是12345。",
    "th": "สวัสดีครับ ผมต้องการขอเงินคืน",
    "ko": "안녕하세요, 환불해 주세요. 계좌번호는 다음과 같습니다.",
    "de": "Guten Tag, ich wohne in der Hauptstraße 5 und möchte Geld zurück. GRÜßE!",
    "fr": "Je voudrais un café à l'Hôtel, s'il vous plaît. Œuvre complète.",
    "nfd": unicodedata.normalize("NFD", "Später rufe ich Frau Ångström an."),
    "tr": "İstanbul'da IŞIK sokağı",
    "pl": "Jestem z Łodzi",
    "el": "Θέλω επιστροφή χρημάτων για τη ΘΕΣΣΑΛΟΝΊΚΗ ΟΔΥΣΣΕΎΣ",
    "hi": "मुझे पैसे वापस चाहिए",
    "ar": "أُرِيدُ اسْتِرْدَادَ الأموال",
    "he": "שָׁלוֹם, אני רוצה החזר",
    "ru": "Ещё раз: верните деньги",
    "en": "don't worry, the refund-request of account 4711 is e-mailed; the ﬁnal bill",
}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spoken") / "catalogue.sqlite"
    catalogue = Catalogue(path)
    with catalogue.writing():
        catalogue.put_rows(
            Row(recording_id=name, day="2026-11-25", key="k", transcription_ids=[name], transcripts=[text])
            for name, text in SAID.items()
        )
    catalogue.close()
    return path


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("東京", "ja"),
        ("東京都", "ja"),
        ("京都", "ja"),
        ("都", "ja"),
        ("京", "ja"),
        ("請求書", "ja"),
        ("キャンセル", "ja half"),
        ("ｷｬﾝｾﾙ", "ja half"),
        ("お電話しました", "ja"),
        ('"電話 しました"', ""),
        ("大阪", ""),
        ("都京", ""),
        ("telnyx社", "mixed"),
        ("telnyx", "mixed"),
        ("社", "mixed"),
        ("APIキー", "mixed"),
        ("3月5日", "mixed"),
        ("月5", "mixed"),
        ("再発行", "mixed"),
        ("退款", "zh"),
        ("款", "zh"),
        ("12345", "zh"),
        ("是12345", "zh"),
        ("เงินคืน", "th"),
        ("ขอเงิน", "th"),
        ("คืนเงิน", ""),
        ("환불", "ko"),
        ("환불해", "ko"),
        ("계좌 환불", "ko"),
        ("strasse", ""),
        ("hauptstrasse", "de"),
        ("HAUPTSTRASSE", "de"),
        ("Hauptstraße", "de"),
        ("grüsse", "de"),
        ("grusse", "de"),
        ("mochte", "de"),
        ("hauptstr*", "de"),
        ("cafe", "fr"),
        ("CAFÉ", "fr"),
        (unicodedata.normalize("NFD", "café"), "fr"),
        ("hotel", "fr"),
        ("oeuvre", "fr"),
        ('"cafe a l hotel"', "fr"),
        ("spater", "nfd"),
        ("angstrom", "nfd"),
        ("istanbul", "tr"),
        ("isik", "tr"),
        ("lodzi", "pl"),
        ("οδυσσευς", "el"),
        ("θεσσαλονικη", "el"),
        ("पैसे", "hi"),
        ("पास", ""),
        ("أريد", "ar"),
        ("استرداد", "ar"),
        ("שלום", "he"),
        ("еще", "ru"),
        ("refund", "en"),
        ('"refund request"', "en"),
        ('"request refund"', ""),
        ("don't", "en"),
        ("don", "en"),
        ("e-mailed", "en"),
        ("final", "en"),
        ("4711 refund", "en"),
        ("ref*", "en"),
        ("efund", ""),
        ("refund OR nothing", ""),
    ],
)
def test_words_are_found_in_every_script(typed: str, names: str, spoken: Path) -> None:
    hits = search(spoken, Query(text=typed), EVERYTHING)
    assert {hit.row.recording_id for hit in hits} == set(names.split())
    for hit in hits:
        assert hit.words is not None and "\x02" in hit.words, "and they are marked"


@pytest.mark.parametrize(
    ("text", "typed", "shown"),
    [
        ("Hauptstraße 5", "hauptstrasse", "<Hauptstraße> 5"),
        (unicodedata.normalize("NFD", "ein Café hier"), "café", unicodedata.normalize("NFD", "ein <Café> hier")),
        ("東京都です", "京都", "東<京都>です"),
        ("3月5日", "3月5", "<3月5>日"),
        ("a refund, a refundable", "refund", "a <refund>, a refundable"),
        ("a refund, a refundable", "refund*", "a <refund>, a <refundable>"),
        ("refund\x1b[2J now", "now", "refund [2J <now>"),
        ("word " * 40 + "refund" + " word" * 60, "refund", None),
        ("nothing of it", "refund", "nothing of it"),
        ("the bill, the bill", '"the bill" bill', "<the bill>, <the bill>"),
    ],
)
def test_search_terms_are_marked_in_the_text_as_spoken(text: str, typed: str, shown: str | None) -> None:
    spoken = marked(text, typed).replace("\x02", "<").replace("\x03", ">")
    if shown is None:
        assert (
            spoken.startswith("... word") and "<refund>" in spoken and spoken.endswith("word ...") and len(spoken) < 230
        )
    else:
        assert spoken == shown


@pytest.mark.parametrize(
    "typed", ["", "  ", '"', '"a', "...", "*", '"…"', "a" * 501, "re\x00fund", "re\x1bfund", "\x07"]
)
def test_impossible_words_are_refused(typed: str) -> None:
    with pytest.raises(BadWords):
        words_query(typed)


E164 = "+15551234567"
FORMS = {
    E164: "15551234567",
    "15551234567": "15551234567",
    "0015551234567": "15551234567",
    "+1 (555) 123-4567": "15551234567",
    "+1.555.123.4567": "15551234567",
    "sip:+15551234567@10.0.0.1": "15551234567",
    "SIPS:+15551234567@host.example:5061;transport=tls": "15551234567",
    "sip:+15551234567;npdi;rn=+15550000000@host": "15551234567",
    "sip:15551234567@host;user=phone?Subject=x": "15551234567",
    "sip:0015551234567@host": "15551234567",
    "sip:%2B15551234567@host": "15551234567",
    "sip:+1-555-123-4567:secret@host": "15551234567",
    "sip:+15551234567;phone-context=example.com@host": "15551234567",
    "tel:+1-555-123-4567;ext=22": "15551234567",
    "tel:+15551234567": "15551234567",
    '"Ann" <sip:+15551234567@host>': "15551234567",
    '"Ann, 22" <sip:+15551234567;npdi@host;user=phone>;tag=7': "15551234567",
    "Ann <tel:+1-555-123-4567;ext=22>": "15551234567",
    "<+15551234567>": "15551234567",
    "\uff0b\uff11\uff15\uff15\uff15\uff11\uff12\uff13\uff14\uff15\uff16\uff17": "15551234567",
    "5551234567": "5551234567",
    "sip:5551234567@host": "5551234567",
}
OTHERS = {
    "sip:ann@host.example": "",
    '"+15551234567" <sip:bob@host.example>': "",
    "anonymous": "",
    "sip:22@host": "22",
    "+4930123456": "4930123456",
    "030 123456": "030123456",
    "+15551234568": "15551234568",
    "": "",
    "sip:": "",
    "<": "",
    "@": "",
}


@pytest.mark.parametrize(("party", "digits"), [*FORMS.items(), *OTHERS.items()])
def test_digits_are_read_from_every_form_of_a_party(party: str, digits: str) -> None:
    assert digits_of(party) == digits


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parties") / "catalogue.sqlite"
    catalogue = Catalogue(path)
    with catalogue.writing():
        catalogue.put_rows(
            Row(recording_id=party or "none", day="2026-11-25", key="k", from_number=party)
            for party in [*FORMS, *OTHERS]
        )
    catalogue.close()
    return path


def by_number(path: Path, typed: str) -> set[str]:
    return {str(hit.row.from_number) for hit in search(path, Query(number=typed), EVERYTHING)}


@pytest.mark.parametrize("typed", [*FORMS, "555 123 4567", "(555) 123-4567", "1 555 123-4567", "+1 555/123-4567"])
def test_a_number_in_any_form_finds_it_in_every_form(typed: str, parties: Path) -> None:
    assert by_number(parties, typed) == set(FORMS)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("+4930123456", {"+4930123456", "030 123456"}),
        ("0049 30 123456", {"+4930123456", "030 123456"}),
        ("030 123456", {"+4930123456", "030 123456"}),
        ("sip:ann", {"sip:ann@host.example"}),
        ("ann@host.example", {"sip:ann@host.example"}),
        ("ANN@", {"sip:ann@host.example"}),
        ("@host.example", {"sip:ann@host.example", '"+15551234567" <sip:bob@host.example>'}),
        ("sip:anonymous", {"anonymous"}),
        ("1234568", {"+15551234568"}),
    ],
)
def test_national_numbers_and_addresses_are_found(typed: str, found: set[str], parties: Path) -> None:
    hits = by_number(parties, typed)
    assert found <= hits and (hits - found <= set(FORMS) if "host.example" in typed else hits == found)


def test_digits_within_a_number_are_found_also_where_others_end_in_them(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    numbers = ["+13125550100", "+493125550", "+31255501234"]
    with catalogue.writing():
        catalogue.put_rows(Row(recording_id=number, day="2026-11-25", key="k", to_number=number) for number in numbers)
    catalogue.close()
    assert {h.row.recording_id for h in search(catalogue.path, Query(number="3125550"), EVERYTHING)} == set(numbers)


@pytest.mark.parametrize(
    "typed", ["abc", "alice", "12", "12-not 3", "+", "sip:", "@", "<>", "1-800-FLOWERS", "+" + "9" * 16, "a b@c"]
)
def test_a_party_that_is_neither_number_nor_address_is_refused(typed: str) -> None:
    with pytest.raises(BadNumber, match=r"\S"):
        wanted_number(typed)


def test_an_address_is_without_its_name_password_and_parameters() -> None:
    assert (
        address_of('"Ann; @ home" <SIP:Ann:secret@Host.example:5060;transport=udp?x=y>;tag=1')
        == "ann@host.example:5060"
    )


def test_a_page_is_full_although_a_call_contains_the_words_twice(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    with catalogue.writing():
        catalogue.put_rows(
            Row(
                recording_id=f"r{n}",
                day="2026-11-25",
                key="k",
                started_at=f"2026-11-25T10:00:{n:02}.000000Z",
                transcription_ids=[f"{n}a", f"{n}b"],
                transcripts=["a refund", "the refund again"],
            )
            for n in range(10)
        )
    catalogue.close()
    first = search(catalogue.path, Query(text="refund"), EVERYTHING, 5)
    rest = search(catalogue.path, Query(text="refund"), EVERYTHING, 50, first[-1].place)
    assert [h.row.recording_id for h in [*first, *rest]] == [f"r{n}" for n in range(9, -1, -1)]


def test_a_catalogue_of_another_version_is_built_anew_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    catalogue = Catalogue(path)
    with catalogue.writing():
        catalogue.put_rows([Row(recording_id="r", day="2026-11-25", key="k")])
    catalogue.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")
    again = Catalogue(path)
    assert again.count() == 0 and again.state("filled") is None
    again.close()
    assert {p.name for p in tmp_path.iterdir()} <= {"catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"}


def test_an_erased_transcription_leaves_no_word_in_the_index(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    folder = "recordings/2026/11/25/r/"
    erased = (
        b'{"schema":"callvault.erasure/1","recording_id":"r","objects":[],"why":"x","by":"x","erased_at":"2026-01-01"}'
    )
    with catalogue.writing():
        catalogue.put_rows(
            [Row(recording_id="r", day="2026-11-25", key="k", transcription_ids=["t"], transcripts=["東京 Straße"])]
        )
    with closing(sqlite3.connect(catalogue.path)) as db:
        db.execute("CREATE VIRTUAL TABLE temp.v USING fts5vocab(main, words, row)")
        assert {row[0] for row in db.execute("SELECT term FROM v")} == {"東京", "京", "strasse"}
    with catalogue.writing():
        catalogue.apply(folder + "erased.json", erased)
    with closing(sqlite3.connect(catalogue.path)) as db:
        db.execute("CREATE VIRTUAL TABLE temp.v USING fts5vocab(main, words, row)")
        assert db.execute("SELECT term FROM v").fetchall() == []
    catalogue.close()

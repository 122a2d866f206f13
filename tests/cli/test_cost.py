"""`callvault cost`: the price table, the rule that is printed, and what is unknown."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from archive.cost import Move, cost_of
from archive.prices import EXAMPLES, GIB, read_prices
from archive.stores.audio_rule import TARGETS
from archive.stores.store import Store, open_store
from lab.processes import run_callvault
from tests.seals.small import SmallArchive
from text.errors import UserError
from text.money import format_money


def test_small_objects_cost_what_their_class_bills_at_least() -> None:
    prices = read_prices("s3://bucket")
    assert prices.is_example and prices.month(None, GIB) == prices.month("STANDARD", GIB) == 0.023
    assert prices.month("STANDARD_IA", 1000, 10) == pytest.approx(10 * 131072 / GIB * 0.0125)
    glacier = prices.month("GLACIER", 0, 1)
    assert glacier == pytest.approx(32768 / GIB * 0.0036 + 8192 / GIB * 0.023)
    assert prices.month("INTELLIGENT_TIERING", 0, 1000) == pytest.approx(0.0025)
    assert prices.month("EXPRESS_ONEZONE", GIB) is None, "unknown is not free"
    assert read_prices("file:///x").month(None, GIB) is None


def test_every_class_that_a_rule_can_move_to_has_an_example_price() -> None:
    for scheme, classes in TARGETS.items():
        prices = read_prices(f"{scheme}://x")
        assert {prices.default, *classes} == set(prices.classes), scheme


@pytest.mark.parametrize(
    "text, said",
    [
        ("gib_month = -1", "Expected `float` >= 0.0"),
        ("gib_month = nan", "Expected `float`"),
        ("gib_month = inf", "Expected `float`"),
        ('gib_month = "0.023"', "got `str`"),
        ("gib_mouth = 0.023", "gib_mo"),
        ("gib_month = 0.1\nmove1000 = 1", "unknown field `move1000`"),
        ("gib_month", "="),
    ],
)
def test_a_table_that_is_wrong_is_refused_and_never_taken_for_free(text: str, said: str, tmp_path: Path) -> None:
    table = tmp_path / "prices.toml"
    head = 'currency = "EUR"\ndate = "x"\n[s3]\nplace = "x"\ndefault = "STANDARD"\n[s3.classes.STANDARD]\n'
    table.write_text(head + text + "\n")
    with pytest.raises(UserError, match=r"not a price table") as refused:
        read_prices("s3://bucket", table)
    assert said in str(refused.value) and str(table) in str(refused.value)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_prices("s3://bucket", tmp_path / "nowhere.toml")


def test_money_that_is_little_or_unknown_is_not_shown_as_nothing() -> None:
    amounts = (0.0, 0.00001, 0.0023, 12.3, 1234.5, -0.5, None)
    assert [format_money(one, "USD") for one in amounts] == [
        "0.00 USD", "under 0.0001 USD", "0.0023 USD", "12.30 USD", "1,234.50 USD", "-0.50 USD", "unknown",
    ]  # fmt: skip


def test_audio_moves_from_the_day_after_its_age_and_nothing_else_does(tmp_path: Path) -> None:
    small = SmallArchive(tmp_path / "archive")
    table = tmp_path / "prices.toml"
    disk = "[file.classes.disk]\ngib_month = 1\n[file.classes.tape]\ngib_month = 0.1\nmove_1000 = 1000\n"
    table.write_text('currency = "EUR"\ndate = "x"\n[file]\nplace = "x"\ndefault = "disk"\n' + disk)
    store: Store = open_store(small.root.as_uri())
    prices = read_prices(store.url, table)
    day = date.fromisoformat(small.folder(9, "9-one")[11:21].replace("/", "-"))
    for before, objects in ((day, 2), (day.fromordinal(day.toordinal() + 1), 4)):
        found = cost_of(store, prices, Move("tape", before))
        assert found.moved is not None and found.moved.objects == objects, "of the days 11 and 9"
        assert found.moved.once == objects
        assert found.moved.month_after == pytest.approx((found.moved.month_before or 0) / 10)
    assert found.classes[""].audio_objects == 8
    assert found.month == pytest.approx(sum(o.size for o in store.list("")) / GIB)


def run(environment: dict[str, str], *words: str, status: int = 0) -> str:
    done = run_callvault(["cost", *words], environment)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def test_a_folder_has_no_price_unless_the_user_gives_one(tmp_path: Path) -> None:
    small = SmallArchive(tmp_path / "archive", {"id": "ab" * 16})
    here = {"CALLVAULT_ARCHIVE_URL": small.root.as_uri(), "CALLVAULT_DATA": str(tmp_path / "data")}
    said = run(here)
    assert "all of it: unknown a month" in said and "no price in the table" in said
    assert json.loads(run(here, "--json"))["month"] is None
    assert "a folder has none" in run(here, "--older-than", "9d", "--to", "GLACIER", status=1)


@pytest.mark.parametrize(
    "change, said",
    [
        (("default = 'disk'", "default = 'disc'"), "file.default: 'disc' has no price; add [file.classes.disc]"),
        (("gib_month = 1", "gib_month = 1\nminimum_bytes = 1" + 400 * "0"), "minimum_bytes"),
        (("gib_month = 1", "gib_month = nan"), "gib_month"),
        (("currency = 'EUR'", 'currency = "E\\u001bUR"'), "currency"),
    ],
)
def test_a_price_table_with_nonsense_is_refused_with_its_place(
    change: tuple[str, str], said: str, tmp_path: Path
) -> None:
    table = tmp_path / "prices.toml"
    text = "currency = 'EUR'\ndate = 'x'\n[file]\nplace = 'x'\ndefault = 'disk'\n[file.classes.disk]\ngib_month = 1\n"
    table.write_text(text)
    assert read_prices("file:///x", table).month(None, GIB) == 1
    table.write_text(text.replace(*change))
    with pytest.raises(UserError) as refused:
        read_prices("file:///x", table)
    assert said in str(refused.value) and "\x1b" not in str(refused.value)


def test_the_table_and_the_rules_are_printed_and_nothing_else(tmp_path: Path) -> None:
    here = {"CALLVAULT_DATA": str(tmp_path)}
    assert run(here, "--print-prices") == EXAMPLES.read_text()
    move = ("--older-than", "90d", "--rule", "--to")
    made = json.loads(run(here | {"CALLVAULT_ARCHIVE_URL": "s3://b/calls"}, *move, "glacier_ir"))
    assert made["Rules"][0]["Filter"]["And"] == {"Prefix": "calls/recordings/", "ObjectSizeGreaterThan": 1048575}
    made = json.loads(run(here | {"CALLVAULT_ARCHIVE_URL": "gs://b"}, *move, "COLDLINE"))
    assert made["rule"][0]["condition"]["matchesPrefix"] == ["recordings/"]
    made = json.loads(run(here | {"CALLVAULT_ARCHIVE_URL": "az://b/calls"}, *move, "cold"))
    assert made["rules"][0]["definition"]["actions"]["baseBlob"] == {
        "tierToCold": {"daysAfterModificationGreaterThan": 90}
    }


@pytest.mark.parametrize(
    "words, said",
    [
        (["--older-than", "90d"], "need each other"),
        (["--to", "GLACIER"], "need each other"),
        (["--rule"], "--rule needs --older-than and --to"),
        (["--rule", "--json", "--older-than", "90d", "--to", "GLACIER"], "exclude each other"),
        (["--print-prices", "--json"], "give it no other option"),
        (["--older-than", "36h", "--to", "GLACIER"], "expected whole days"),
        (["--older-than", "0d", "--to", "GLACIER"], "--older-than"),
        (["--older-than", "soon", "--to", "GLACIER"], "--older-than"),
    ],
)
def test_options_that_do_not_fit_are_refused(words: list[str], said: str, tmp_path: Path) -> None:
    assert said in run({"CALLVAULT_DATA": str(tmp_path), "CALLVAULT_ARCHIVE_URL": "s3://b/x"}, *words, status=2)

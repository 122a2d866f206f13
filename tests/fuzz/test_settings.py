"""Anything in the environment or in the connections file gives values or one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.settings import SettingsError, load_settings, names_of_settings
from lab.processes import as_in_a_process
from tests.fuzz.values import texts
from workers.connections.document import BadDocument, load
from workers.engine.connect import connect_worker
from workers.queue.connect import connect_receiver

NAMES = sorted(names_of_settings())
HINTS = st.sampled_from(
    ["1h", "30d", "wait 1h", "22-06", "a=off", "redis://h", "rediss://h/0?ssl_cert_reqs=none", "s3://b", "file:///x",
     "redis+sentinel://h/n", "redis+sentinel://[::1]:1,b/n/x", "redis://:p%40@h:99999/0", "https://h", "http://[::1]/v2"]
)  # fmt: skip
_WRITABLE = texts.filter(lambda text: "\x00" not in text and text.isascii() | text.isprintable())


@given(st.dictionaries(st.sampled_from(NAMES), st.one_of(_WRITABLE, HINTS), max_size=4))
@example({"REDIS_URL": "redis://h:notaport/0"})
@example({"REDIS_URL": "redis+sentinel://h/name/notanumber"})
@example({"REDIS_URL": "redis://h/notanumber"})
@example({"REDIS_URL": "redis://h?db=x"})
@example({"CALLVAULT_ARCHIVE_URL": "s3://["})
@example({"TELNYX_BASE_URL": "https://h:x"})
@example({"CALLVAULT_TIMESTAMP_URL": "https://h:99999999"})
def test_settings_are_values_or_one_line(environment: dict[str, str]) -> None:
    with as_in_a_process(environment):
        try:
            settings = load_settings()
        except SettingsError as error:
            line = str(error)
            assert "\n" not in line and any(line.startswith(f"{name}: ") for name in environment), line
            return
    assert settings.archive_address.partition(":")[0] in ("file", "s3", "gs", "az")
    if settings.redis_url is not None:  # an accepted value can be connected with
        url = settings.redis_url.get_secret_value()
        assert connect_receiver(url) is not None and connect_worker(url) is not None


@given(
    st.sampled_from(["redis", "rediss", "unix", "redis+sentinel", "http"]),
    st.text(alphabet=":/?#@[]&=%a1,\u2100", max_size=12),
    st.booleans(),
)
@example("redis", "\u2100", True)
@example("redis", ":", True)
@example("redis", "#", False)
@example("redis+sentinel", "/", True)
def test_no_error_shows_a_password_whatever_its_characters(scheme: str, odd: str, is_first: bool) -> None:
    password = odd + "hunter2" if is_first else "hunter2" + odd
    with pytest.MonkeyPatch.context() as here:
        here.setenv("REDIS_URL", f"{scheme}://user:{password}@host:6379/0")
        try:
            load_settings()
        except SettingsError as error:
            assert "hunter2" not in str(error)


@given(text=st.one_of(st.text(max_size=200), st.binary(max_size=200)))
@example(text="a = " + "[" * 5_000)
@example(text="[external_connections.a]\nx = 1\n[external_connections]\n")
def test_a_file_of_connections_is_a_document_or_one_line(text: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "connections.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        load(path, {})
    except BadDocument as error:
        assert str(error).startswith(str(path))


def test_the_names_are_all_there() -> None:
    assert len(NAMES) > 30 and "REDIS_URL" in NAMES
    with pytest.raises(SettingsError):
        load_settings(concurrency=0)

"""The settings of sign-in, and the file with the roles of groups and people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.scopes import Grant, Scope
from config.settings import SettingsError, load_settings
from config.sign_in import AccessFile, read_access_file, read_sign_in
from lab.processes import free_port, run_callvault
from lab.webhooks import Signer

SECRET = "the-secret-of-the-client"
OIDC = {
    "CALLVAULT_OIDC_ISSUER": "https://id.example.com",
    "CALLVAULT_OIDC_CLIENT_ID": "callvault",
    "CALLVAULT_OIDC_CLIENT_SECRET": SECRET,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "access.toml"
    path.write_text(
        '[groups]\n"a b" = ["listener", "operator"]\nstaff = "auditor"\n[people]\n"Ada@Example.com" = "officer"'
    )
    return path


def roles(access: AccessFile, names: list[str], groups: list[str]) -> set[str]:
    return {grant.role for grant in access.grants(names, groups)}


def test_a_person_has_the_roles_of_all_entries_that_fit(file: Path) -> None:
    access = read_access_file(file)
    assert roles(access, ["ada@example.com"], ["staff", "others"]) == {"officer", "auditor"}
    assert roles(access, ["ADA@example.com"], ["a b"]) == {"officer", "listener", "operator"}
    assert roles(access, ["ada"], ["Staff", "a", "A B"]) == set(), "a group is written as the provider writes it"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[groups]\nx = 'boss'", "[groups] 'x': unknown role 'boss'; expected one of listener, operator,"),
        ("[groups]\nx = []", "[groups] 'x': expected one or several of listener,"),
        ("[groups]\nx = 1", "[groups] 'x': expected one or several of"),
        ("[people]\nx = [['admin']]", "[people] 'x': expected one or several of"),
        ("[group]\nx = 'admin'", "unknown table [group]; expected [groups] or [people]"),
        ("groups = 'admin'", "groups: expected a table"),
        ("", "gives nobody a role"),
        ("[groups", "invalid TOML"),
        ("[groups]\nx = { connections = ['1'] }", "[groups] 'x': expected one or several of listener,"),
        ("[groups]\nx = { role = 'boss' }", "[groups] 'x': unknown role 'boss'"),
        ("[groups]\nx = { role = 'listener', connection = ['1'] }", "unknown name 'connection'; expected role, connec"),
        ("[groups]\nx = { role = 'listener', connections = [] }", "connections: is empty; leave it out if it does not"),
        ("[groups]\nx = { role = 'listener', connections = '1' }", "connections: expected texts, such as"),
        ("[groups]\nx = { role = 'listener', connections = [1] }", "connections: expected texts, such as"),
        ("[groups]\nx = { role = 'listener', connections = ['a b'] }", "connections: 'a b' is not the id of a connec"),
        (
            "[groups]\nx = { role = 'listener', numbers = ['49'] }",
            "numbers: '49' is not the beginning of a number, such",
        ),
        ("[groups]\nx = { role = 'listener', mask = 1 }", "mask: expected true or false"),
        ("[people]\nx = ['listener', { role = 'auditor', numbers = ['+49'] }]", "the role auditor cannot have a scope"),
        ("[groups]\nx = { role = 'admin', connections = ['1'] }", "cannot have a scope, because it may do everything;"),
    ],
)
def test_a_file_with_a_mistake_is_refused_in_one_line(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "access.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_access_file(path)
    assert expected in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_access_file(tmp_path / "none-such")


def test_an_entry_may_limit_a_role_to_connections_and_numbers_and_mask_numbers(tmp_path: Path) -> None:
    path = tmp_path / "access.toml"
    path.write_text(
        """[groups]
"EU support" = { role = "listener", connections = ["123", "123"], numbers = ["+49", "+44"], mask = true }
leads = [{ role = "officer", connections = ["123"] }, "operator", { role = "auditor", mask = true }]
"""
    )
    access = read_access_file(path)
    eu, officer = Scope(("123",), ("+49", "+44")), Scope(("123",))
    assert access.grants([], ["EU support"]) == (Grant("listener", eu, mask=True),)
    leads = (Grant("officer", officer), Grant("operator"), Grant("auditor", mask=True))
    assert access.grants([], ["leads", "EU support"]) == (*leads, Grant("listener", eu, mask=True))
    done = run_callvault(["access", "check", "--group", "EU support", "--group", "leads", "--file", str(path)])
    assert done.stdout.splitlines() == [
        "listener for connection 123 and numbers +49, +44, numbers masked: group EU support",
        "operator: group leads",
        "officer for connection 123: group leads",
        "auditor, numbers masked: group leads",
    ]


@pytest.mark.parametrize("missing", [*OIDC, "CALLVAULT_ACCESS_FILE"])
def test_a_receiver_does_not_start_with_half_a_sign_in(missing: str, file: Path, tmp_path: Path) -> None:
    settings = OIDC | {"CALLVAULT_ACCESS_FILE": str(file)}
    settings.pop(missing)
    environment = {"CALLVAULT_DATA": str(tmp_path), "TELNYX_PUBLIC_KEY": Signer().public_key, **settings}
    done = run_callvault(["serve", "--port", str(free_port())], environment)
    assert done.returncode == 2 and f"{missing}: is not set, and CALLVAULT_OIDC_" in done.stderr, done.stderr
    assert SECRET not in done.stderr


def test_plain_http_to_a_provider_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("http://id.example.com", "https://id.example.com/?x=1", "id.example.com"):
        monkeypatch.setenv("CALLVAULT_OIDC_ISSUER", address)
        with pytest.raises(SettingsError, match="CALLVAULT_OIDC_ISSUER: cannot use"):
            load_settings()


def test_the_secret_is_in_no_repr_and_may_come_from_a_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    for name, value in (OIDC | {"CALLVAULT_ACCESS_FILE": str(file)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CALLVAULT_OIDC_CLIENT_SECRET")
    monkeypatch.setenv("CALLVAULT_OIDC_CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    openid = read_sign_in(load_settings()).openid
    assert openid is not None and openid.client_secret.get_secret_value() == SECRET
    assert SECRET not in repr(openid) and SECRET not in repr(load_settings())
    assert openid.scopes == ("openid", "profile", "email")


def test_access_check_says_which_roles_a_person_gets_and_why(file: Path) -> None:
    environment = {"CALLVAULT_ACCESS_FILE": str(file)}
    done = run_callvault(["access", "check", "--who", "Ada@example.com", "--group", "a b", "--group", "x"], environment)
    lines = ["listener: group a b", "operator: group a b", "officer: person ada@example.com"]
    assert (done.returncode, done.stdout.splitlines()) == (0, lines), done.stderr
    report = json.loads(run_callvault(["access", "check", "--group", "staff", "--json"], environment).stdout)
    grant = {"role": "auditor", "connections": [], "numbers": [], "mask": False}
    entry = {"entry": "group staff", "roles": ["auditor"], "grants": [grant]}
    assert report == {"roles": ["auditor"], "because": [entry]}
    nobody = run_callvault(["access", "check", "--who", "eve"], environment)
    assert nobody.returncode == 1 and nobody.stdout == f"no role: no entry of {file} fits\n"
    alone = run_callvault(["access", "check"], environment)
    assert (alone.returncode, alone.stdout) == (0, f"{file}: 2 groups and 1 person; no mistake\n")
    unset = run_callvault(["access", "check"])
    assert unset.returncode == 2 and "CALLVAULT_ACCESS_FILE is not set" in unset.stderr


def test_only_the_same_address_in_another_case_is_the_same_person(tmp_path: Path) -> None:
    path = tmp_path / "access.toml"
    path.write_text('[people]\n"Strasse@Example.com" = "admin"\n"kate@example.com" = "officer"\nauth0x7 = "admin"\n')
    access = read_access_file(path)
    assert roles(access, ["STRASSE@example.COM"], []) == {"admin"} and roles(access, ["Kate@example.com"], [])
    for other in ("straße@example.com", "\N{KELVIN SIGN}ate@example.com", "AUTH0x7"):
        assert not roles(access, [other], []), other


PROXY = {
    "CALLVAULT_PROXY_USER_HEADER": "OIDC_CLAIM_email",
    "CALLVAULT_PROXY_ADDRESSES": "10.0.0.0/28, 127.0.0.1, fd00::/8",
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"CALLVAULT_PROXY_ADDRESSES": ""},
            "CALLVAULT_PROXY_ADDRESSES: is not set, and CALLVAULT_PROXY_USER_HEADER is",
        ),
        ({"CALLVAULT_PROXY_USER_HEADER": ""}, "CALLVAULT_PROXY_USER_HEADER: is not set, and CALLVAULT_PROXY_ADDRESSES"),
        ({"CALLVAULT_ACCESS_FILE": ""}, "CALLVAULT_ACCESS_FILE: is not set"),
        ({"CALLVAULT_PROXY_ADDRESSES": "10.0.0.1/8"}, "CALLVAULT_PROXY_ADDRESSES: cannot use"),
        ({"CALLVAULT_PROXY_ADDRESSES": "proxy"}, "CALLVAULT_PROXY_ADDRESSES: cannot use"),
        ({"CALLVAULT_PROXY_USER_HEADER": "X-User: x"}, "CALLVAULT_PROXY_USER_HEADER: cannot use"),
        (OIDC, "CALLVAULT_PROXY_USER_HEADER: CALLVAULT_OIDC_ISSUER is set too; people sign in in one way"),
    ],
)
def test_half_a_proxy_or_two_ways_to_sign_in_are_refused(
    change: dict[str, str], expected: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (PROXY | {"CALLVAULT_ACCESS_FILE": str(file)} | change).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        read_sign_in(load_settings())
    assert expected in str(caught.value)


def test_a_proxy_is_where_its_networks_say(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (PROXY | {"CALLVAULT_ACCESS_FILE": str(file)}).items():
        monkeypatch.setenv(name, value)
    proxy = read_sign_in(load_settings()).proxy
    assert proxy is not None
    for address in ("10.0.0.3", "127.0.0.1", "::ffff:10.0.0.3", "fd00::1"):
        assert proxy.is_at(address), address
    for other in ("10.0.0.16", "127.0.0.2", "::1", "::ffff:10.0.0.16", "", None, "unix", "10.0.0.3, 1.2.3.4"):
        assert not proxy.is_at(other), other

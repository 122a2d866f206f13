"""Deployment files match the code: commands, settings and metrics exist, alerts have advice."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.secret_files import SUFFIX
from config.settings import names_of_secrets, names_of_settings
from lab.processes import run_callvault
from service.metrics import TABLE

ROOT = Path(__file__).parent.parent
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it: ten times as fast
COMPOSE = yaml.load((ROOT / "compose.yaml").read_text(), LOADER)
ALERTS = yaml.load((ROOT / "deploy/prometheus/alerts.yml").read_text(), LOADER)["groups"][0]["rules"]
SDKS = re.compile(r"(AWS|AZURE|GOOGLE|OTEL)_\w+")
SERIES = {*TABLE} | {f"{row.name}_{end}" for row in TABLE.values() for end in ("bucket", "sum", "count")}


def ours() -> dict[str, dict[str, Any]]:
    return {name: one for name, one in COMPOSE["services"].items() if one["image"] == "${CALLVAULT_IMAGE:-callvault}"}


@pytest.mark.parametrize("name", ours())
def test_the_commands_of_the_compose_file_are_commands(name: str) -> None:
    done = run_callvault([*ours()[name]["command"], "--help"])  # an unknown option fails before the help
    assert done.returncode == 0, done.stderr


def test_the_settings_of_the_compose_file_are_settings() -> None:
    known = {*names_of_settings()} | {"FORWARDED_ALLOW_IPS"}
    known |= {name + SUFFIX for name in names_of_secrets()}
    given = {name for one in ours().values() for name in one.get("environment", {})}
    assert "CALLVAULT_ARCHIVE_URL" in given
    assert [name for name in given - known if not SDKS.fullmatch(name)] == []


def test_every_setting_and_secret_file_reaches_the_containers_without_an_override_file() -> None:
    names, secrets = {*names_of_settings()}, {*names_of_secrets()}
    of_disposal = {name for name in names if "_DISPOSE_" in name}
    fixed = {"REDIS_URL", "CALLVAULT_DATA"}  # by the file, and by the image
    wanted = names - of_disposal - fixed | {name + SUFFIX for name in secrets - of_disposal - fixed}
    for service in ("receiver", "worker"):
        assert wanted - ours()[service]["environment"].keys() == set()
    own = ours()["disposal"]["environment"]
    assert of_disposal | {"CALLVAULT_DISPOSE_CREDENTIALS_FILE"} <= own.keys()
    assert not names - secrets - fixed - _OF_PEOPLE - {"TELNYX_PUBLIC_KEY"} - own.keys(), "it writes as workers write"
    defaults = {"CALLVAULT_ARCHIVE_URL": "file:///var/lib/callvault/archive", "CALLVAULT_DELETE_ORIGINALS": "never"}
    for one in ours().values():
        for name, value in one["environment"].items():
            if name not in {"REDIS_URL", "FORWARDED_ALLOW_IPS"}:
                assert value == f"${{{name}:-{defaults.get(name, '')}}}", "empty, it counts as not set"


@pytest.mark.parametrize("name", ["receiver", "worker", "disposal"])
def test_the_environment_of_the_compose_file_can_be_used_as_it_is(name: str) -> None:
    given = {key: _default(str(value)) for key, value in ours()[name]["environment"].items()}
    done = run_callvault(["config", "--json"], given)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "no variable is taken for a typo"


def test_the_files_that_settings_name_lie_in_one_folder_and_what_may_delete_in_another() -> None:
    for name in ("receiver", "worker", "disposal"):
        assert "config:/etc/callvault:ro" in map(_default, ours()[name]["volumes"])
    readers = [name for name, one in ours().items() if "callvault-dispose" in str(one["volumes"])]
    assert readers == ["disposal"]


_OF_PEOPLE = {
    name for name in names_of_settings() if re.match(r"CALLVAULT_(OIDC|PROXY|ACCESS|ASK|UNUSUAL|OPS|API)_", name)
}


def _default(text: str) -> str:
    """What Compose makes of a text while no variable is set."""
    while (inner := re.sub(r"\$\{\w+:-([^${}]*)\}", r"\1", text)) != text:
        text = inner
    return text


def test_the_compose_file_keeps_what_it_must() -> None:
    services = COMPOSE["services"]
    assert services["valkey"]["command"][1:] == [
        *("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--maxmemory", "1gb")
    ]
    assert services["worker"]["deploy"]["replicas"] == 2
    assert ours().keys() == {"receiver", "worker", "disposal", "sandbox"}
    assert {name for name, one in services.items() if "profiles" in one} == {"disposal", "sandbox"}, "off by default"
    assert all(one["init"] for one in ours().values()), "the first process of a container ignores an early SIGTERM"
    for name, one in services.items():
        assert one["security_opt"] == ["no-new-privileges:true"] and one["mem_limit"] in ("512m", "1g", "2g"), name
        if name != "grafana":  # it keeps its database in its root
            assert one["read_only"] and one["cap_drop"] == ["ALL"], name
        for volume in one.get("volumes", ()):
            source = _default(volume).partition(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), volume


def test_only_the_service_that_disposes_gets_the_credentials_that_may_delete() -> None:
    environments = {name: one["environment"] for name, one in ours().items()}
    assert [name for name, one in environments.items() if "CALLVAULT_DISPOSE_CREDENTIALS" in one] == ["disposal"]
    own, worker = environments["disposal"], environments["worker"]
    assert {key for key in own if key in worker and own[key] != worker[key]} == set()
    not_its_own = {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AZURE_STORAGE_CONNECTION_STRING",
        "GOOGLE_APPLICATION_CREDENTIALS",
    }
    assert not {name.removesuffix(SUFFIX) for name in own} & {*names_of_secrets(), *not_its_own} - {
        "REDIS_URL",
        "CALLVAULT_ALERT_URLS",
        "CALLVAULT_SEAL_KEY",  # it signs what it records
        "CALLVAULT_DISPOSE_CREDENTIALS",
    }, "no key of Telnyx, and not what workers write with"
    wanted = {*names_of_settings()}
    assert {key for key in own if "_DISPOSE_" in key and not key.endswith(SUFFIX)} == {
        key for key in wanted if "_DISPOSE_" in key
    }


def test_the_image_has_every_package_and_states_its_facts() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    sent = (ROOT / ".dockerignore").read_text().split()
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"\nCOPY {package} {package}\n" in dockerfile and f"!{package}" in sent, package
    about = project["project"]
    for label, value in (("version", about["version"]), ("description", about["description"])):
        assert f'org.opencontainers.image.{label}="{value}"' in dockerfile
    assert 'CMD ["callvault", "healthy", "--container"]' in dockerfile


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"\bcallvault_\w+", expression))


def test_every_alert_asks_for_a_metric_that_exists_and_has_its_advice() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    assert len(ALERTS) >= 8
    for rule in ALERTS:
        assert metrics_of(rule["expr"]) <= SERIES, rule
        assert f"`{rule['alert']}`" in runbook, rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical") and rule["annotations"]["summary"]


def test_the_dashboard_shows_every_metric_and_none_that_does_not_exist() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/callvault.json").read_text())
    shown = {name for panel in dashboard["panels"] for t in panel["targets"] for name in metrics_of(t["expr"])}
    assert shown <= SERIES
    assert {*TABLE} - {name.removesuffix("_bucket") for name in shown} == set()

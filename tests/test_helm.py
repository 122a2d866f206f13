"""The Helm chart, rendered by Helm's own library, gives the same objects as kustomize's overlays."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import SETTINGS
from tests.test_deploy import LOADER
from tests.test_kubernetes import KUBERNETES, ROOT, SCALED_OBJECT, objects, with_disposal

CHART = ROOT / "deploy" / "helm" / "callvault"
LIBRARY = ROOT / ".tools" / "helm" / "bin" / "python"  # of `make test`; it holds a Helm of 75 MB
VALUES = {"small": "values.yaml", "large": "values-large.yaml"}
OVERLAYS = (*VALUES, "disposal")
ONLY_OF_KUSTOMIZE = ("Namespace",)

RENDER = """
import json, sys
from helm_python.chart import Chart, lint
path, values = sys.argv[1], json.loads(sys.argv[2])
chart = Chart.load(path)
print(json.dumps({"files": chart.render(values, name="callvault", namespace="callvault"), "lint": lint(path)}, default=str))
"""

Object = dict[str, Any]


def helm(values: dict[str, Any]) -> dict[str, Any]:
    if not LIBRARY.exists():
        pytest.skip("Helm's library is not installed; `make test` installs it on Linux x86-64")
    done = subprocess.run(
        [str(LIBRARY), "-c", RENDER, str(CHART), json.dumps(values)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def rendered(values: dict[str, Any]) -> list[Object]:
    files = helm(values)["files"]
    texts = [text for name, text in files.items() if not name.endswith("NOTES.txt")]
    return [one for text in texts for one in yaml.load_all(text, LOADER) if one]


@functools.cache
def chart(overlay: str) -> list[Object]:
    values = yaml.safe_load((CHART / VALUES.get(overlay, VALUES["small"])).read_text())
    return rendered(values | {"disposal": {"enabled": True}} if overlay == "disposal" else values)


def overlay_of(name: str) -> list[Object]:
    return with_disposal() if name == "disposal" else objects(name)


def plain(one: Object, config_map: str) -> Object:
    """An object without what the two write differently.

    kustomize puts a hash of the settings into the name of the ConfigMap, the chart into an annotation of the pods. Helm
    takes the namespace from its command line.
    """
    copy = json.loads(json.dumps(one).replace(f'"{config_map}"', '"callvault"'))
    copy["metadata"].pop("namespace", None)
    template = copy.get("spec", {}).get("template", {}).get("metadata", {})
    if template.get("annotations", {}).pop("checksum/settings", None) and not template["annotations"]:
        del template["annotations"]
    for container in copy.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
        if container.get("imagePullPolicy") == "IfNotPresent":  # what Kubernetes takes for an image with a tag
            del container["imagePullPolicy"]
    return dict(copy)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_object_is_the_one_that_kustomize_makes(overlay: str) -> None:
    ours = overlay_of(overlay)
    (config_map,) = [one["metadata"]["name"] for one in ours if one["kind"] == "ConfigMap"]
    expected = {(one["kind"], one["metadata"]["name"]): one for one in (plain(one, config_map) for one in ours)}
    found = {(one["kind"], one["metadata"]["name"]): one for one in (plain(one, "callvault") for one in chart(overlay))}
    assert found.keys() == {key for key in expected if key[0] not in ONLY_OF_KUSTOMIZE}
    for key, one in found.items():
        assert one == expected[key], key


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_is_valid_by_its_schema(overlay: str) -> None:
    import kubernetes_validate

    for one in chart(overlay):
        if one["kind"] == "ScaledObject":
            assert set(one["spec"]) == SCALED_OBJECT
            continue
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


def checksums(values: dict[str, Any]) -> set[str]:
    return {
        one["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
        for one in rendered(values)
        if one["kind"] == "Deployment"
    }


def test_a_change_of_the_settings_restarts_the_pods() -> None:
    before, after = (checksums({"settings": settings}) for settings in ({}, {"CALLVAULT_DELETE_ORIGINALS": "verified"}))
    assert len(before) == len(after) == 1 and before != after


def test_what_a_user_sets_arrives() -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/own"}
    values = {
        "image": {"repository": "registry.example.com/callvault", "tag": "1.2.3"},
        "secretName": "own",
        "settings": {"CALLVAULT_ARCHIVE_URL": "gs://own/a", "CALLVAULT_DELETE_STOP_PERCENT": 5},
        "serviceAccount": {"annotations": role},
        "worker": {"replicas": 7, "processes": 4},
    }
    found = {(one["kind"], one["metadata"]["name"]): one for one in rendered(values)}
    assert found["ConfigMap", "callvault"]["data"]["CALLVAULT_DELETE_STOP_PERCENT"] == "5", "every setting is a text"
    assert found["ServiceAccount", "callvault"]["metadata"]["annotations"] == role
    worker = found["Deployment", "callvault-worker"]["spec"]
    (container,) = worker["template"]["spec"]["containers"]
    assert (worker["replicas"], container["args"]) == (7, ["worker", "--processes", "4"])
    assert container["image"] == "registry.example.com/callvault:1.2.3"
    assert container["envFrom"][1] == {"secretRef": {"name": "own"}}
    assert not [one for one in found.values() if one["kind"] == "Secret"]


def test_disposal_takes_its_own_secret_or_the_role_of_its_own_account() -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/may-delete"}
    values = {
        "secretName": "own",
        "disposal": {"enabled": True, "secretName": "", "serviceAccount": {"annotations": role}},
    }
    found = {(one["kind"], one["metadata"]["name"]): one for one in rendered(values)}
    assert found["ServiceAccount", "callvault-disposal"]["metadata"]["annotations"] == role
    assert "annotations" not in found["ServiceAccount", "callvault"]["metadata"]
    (container,) = found["Deployment", "callvault-disposal"]["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": "callvault"}}]
    assert {one["valueFrom"]["secretKeyRef"]["name"] for one in container["env"]} == {"own"}
    assert not [key for key in ((one["kind"], one["metadata"]["name"]) for one in rendered({})) if "disposal" in key[1]]


def test_each_file_that_a_setting_names_is_a_value_of_the_chart() -> None:
    names = {row.name for row in SETTINGS.values() if row.read is Path}
    texts = {
        "accessFile": '[groups]\n"voice team" = ["operator", "listener"]\n',
        "retentionFile": '[[rule]]\nname = "all"\n',
        "connectionsFile": "a",
        "pricesFile": "b",
        "timestampCa": "c",
    }
    found = {(one["kind"], one["metadata"]["name"]): one for one in rendered({**texts, "disposal": {"enabled": True}})}
    settings, files = found["ConfigMap", "callvault"]["data"], found["ConfigMap", "callvault-files"]["data"]
    given = {name: value.rsplit("/", 1) for name, value in settings.items() if value.startswith("/etc/")}
    assert given.keys() == names and {files[name] for _, name in given.values()} == {*texts.values()}
    assert files["retention.toml"] == texts["retentionFile"] and len(files) == len(texts)
    for part in ("receiver", "worker", "disposal"):
        template = found["Deployment", f"callvault-{part}"]["spec"]["template"]
        pod, annotations = template["spec"], template["metadata"]["annotations"]
        (volume,) = (one["name"] for one in pod["volumes"] if one.get("configMap", {}).get("name") == "callvault-files")
        for folder in {folder for folder, _ in given.values()}:
            assert {"name": volume, "mountPath": folder, "readOnly": True} in pod["containers"][0]["volumeMounts"]
        assert annotations["checksum/settings"] not in checksums({}), "a change restarts the pods"
    assert ("ConfigMap", "callvault-files") not in {(one["kind"], one["metadata"]["name"]) for one in rendered({})}


def test_helm_finds_no_fault_in_the_chart() -> None:
    report = helm({})["lint"]
    assert report["errors"] == []
    assert [one["error"] for one in report["messages"]] == ["icon is recommended"]

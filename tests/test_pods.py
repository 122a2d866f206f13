"""The pods of the manifests run on this machine: ready by their own probes, a call is archived, each ends in time."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.pods import Node, Pod, why_not
from lab.processes import CALLVAULT, ROOT, wait_for
from lab.stores import S3_ENVIRONMENT, rclone
from tests.test_kubernetes import objects, pods, with_disposal

pytestmark = pytest.mark.timeout(300)
OPS_TOKEN = "token-of-the-ops-pages"
RETENTION = '[rules.sales]\nconnections = ["1"]\nkeep = "10 years"\n'
USERS_SETTINGS = {
    "CALLVAULT_ARCHIVE_URL": "s3://recordings/callvault",
    "CALLVAULT_RETENTION_FILE": "/etc/callvault/retention.toml",
}


@dataclass
class Cluster:
    node: Node
    bucket: Path
    control: str
    given: dict[str, dict[str, str]]
    valkey: Pod
    receivers: list[Pod]
    workers: list[Pod]
    refused: Pod  # the first worker, started before there was an archive


def template(overlay: str, name: str) -> dict[str, Any]:
    return dict(pods(overlay))[name]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The small overlay, as docs/deployment.md says: Secret, settings, `init` once."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        node = stack.enter_context(Node(folder))
        bucket = folder / "buckets" / "recordings"
        bucket.mkdir(parents=True)
        keys = f"{S3_ENVIRONMENT['AWS_ACCESS_KEY_ID']},{S3_ENVIRONMENT['AWS_SECRET_ACCESS_KEY']}"
        served = ["serve", "s3", "--addr", f"{node.address}:9000", "--auth-key", keys, "--vfs-cache-mode", "off"]
        node.start([rclone(), *served, "--config", "/dev/null", str(bucket.parent)])
        sandbox = node.start(
            [*CALLVAULT, "sandbox", "--host", node.address, "--port", "9001", "--json"], {"PYTHONPATH": str(ROOT)}
        )
        facts = json.loads(wait_for(lambda: next(iter(sandbox.output.splitlines()), ""), 60, "the sandbox's facts"))
        small = objects("small")
        (settings,) = [one for one in small if one["kind"] == "ConfigMap"]
        assert settings["data"]["CALLVAULT_ARCHIVE_URL"] == "s3://change-me/callvault", "what a user sets"
        given = {
            settings["metadata"]["name"]: settings["data"] | USERS_SETTINGS,
            "callvault": {
                "TELNYX_API_KEY": facts["api_key"],
                "TELNYX_PUBLIC_KEY": facts["public_key"],
                "TELNYX_BASE_URL": facts["base_url"],
                "REDIS_URL": "redis://callvault-valkey:6379/0",
                "CALLVAULT_OPS_TOKEN": OPS_TOKEN,
                "AWS_ENDPOINT_URL_S3": f"http://{node.address}:9000",
                **S3_ENVIRONMENT,
            },
            "callvault-files": {"retention.toml": RETENTION},
        }
        valkey = node.pod(template("small", "callvault-valkey"), given)
        node.names["callvault-valkey"] = valkey.address  # the headless service
        valkey.wait_until_ready()
        (scaler,) = [one for one in small if one["kind"] == "HorizontalPodAutoscaler"]
        count = scaler["spec"]["minReplicas"]
        receivers = [node.pod(template("small", "callvault-receiver"), given) for _ in range(count)]
        refused = node.pod(template("small", "callvault-worker"), given)
        for one in receivers:
            one.wait_until_ready()
        wait_for(lambda: refused.process.has_ended, 60, "the end of a worker without an archive")
        status, output = receivers[0].exec(["callvault", "init"])
        assert status == 0, output + receivers[0].exec(["sh", "-c", "cat /tmp/*.log"])[1]
        (worker,) = [
            one for one in small if (one["kind"], one["metadata"]["name"]) == ("Deployment", "callvault-worker")
        ]
        workers = [node.pod(worker["spec"]["template"], given) for _ in range(worker["spec"]["replicas"])]
        for one in workers:
            one.process.wait_for_output("worker ready", 60)
        left = [one.pid for one in (valkey, *receivers)]
        yield Cluster(node, bucket, facts["control_url"], given, valkey, receivers, workers, refused)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), 30, "the end of all containers")


def archived(cluster: Cluster) -> int:
    return len(list(cluster.bucket.rglob("recording.json")))


def _has(cluster: Cluster, count: int) -> bool:
    return archived(cluster) >= count


def _is_unready(pod: Pod) -> bool:
    return not pod.probe("readinessProbe")


def test_each_pod_is_ready_and_alive_by_its_own_probes(cluster: Cluster) -> None:
    for pod in (cluster.valkey, *cluster.receivers, *cluster.workers):
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            wait_for(partial(pod.probe, name), 30, f"{name} of {pod.container['name']}")


def test_a_worker_without_an_archive_ends_and_says_why(cluster: Cluster) -> None:
    assert "callvault init" in cluster.refused.process.output
    assert not cluster.refused.probe("livenessProbe")


def test_each_runs_with_the_rights_of_the_manifest_and_no_others(cluster: Cluster) -> None:
    for pod, user in ((cluster.valkey, 999), (cluster.receivers[0], 10001), (cluster.workers[0], 10001)):
        status = Path(f"/proc/{pod.pid}/status").read_text()
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert set(facts["Uid"].split()) == {str(user)} and facts["NoNewPrivs"] == "1"
        assert {int(facts[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert pod.exec(["touch", "/own"])[0] != 0, "the root cannot be written"
        for mount in pod.container["volumeMounts"]:
            assert (pod.exec(["touch", mount["mountPath"] + "/own"])[0] == 0) is not mount.get("readOnly", False)
        names = {line.partition("=")[0] for line in pod.exec(["env"])[1].splitlines()}
        assert "CI" not in names and names <= {
            "PATH",
            "HOME",
            "PYTHONPATH",
            "CALLVAULT_DATA",
            "PYTHONDONTWRITEBYTECODE",
        } | {name for values in cluster.given.values() for name in values}


def test_a_file_of_the_config_map_is_where_the_settings_look_for_it(cluster: Cluster) -> None:
    for pod in (cluster.receivers[0], cluster.workers[0]):
        status, text = pod.exec(["callvault", "retention", "plan"])
        assert status == 0 and "sales" in text, text


def test_a_call_is_archived_through_either_receiver(cluster: Cluster) -> None:
    for receiver in cluster.receivers:
        before = archived(cluster)
        order = json.dumps({"count": 2, "webhook_url": f"http://{receiver.address}:8080/webhooks/telnyx"})
        status, text = cluster.node.curl(f"{cluster.control}/calls", "--data", order, seconds=30)
        assert status == 200, text
        wait_for(partial(_has, cluster, before + 2), 60, "two archived calls")
    status, text = cluster.receivers[0].exec(["callvault", "status", "--json"])
    assert json.loads(text), text


def test_the_metrics_are_where_the_annotations_say(cluster: Cluster) -> None:
    told = template("small", "callvault-receiver")["metadata"]["annotations"]
    port, path = told["prometheus.io/port"], told["prometheus.io/path"]
    status, text = cluster.node.curl(f"http://{cluster.receivers[0].address}:{port}{path}")
    assert status == 200 and "callvault_redis_up 1.0" in text


@pytest.mark.parametrize("overlay", ["small", "large"])
def test_a_worker_ends_within_its_grace_and_its_jobs_go_on(cluster: Cluster, overlay: str) -> None:
    pod = cluster.node.pod(template(overlay, "callvault-worker"), with_settings(cluster, overlay))
    pod.process.wait_for_output("worker ready", 60)
    before = archived(cluster)
    target = f"http://{cluster.receivers[0].address}:8080/webhooks/telnyx"
    order = json.dumps({"count": 6, "webhook_url": target})
    assert cluster.node.curl(f"{cluster.control}/calls", "--data", order, seconds=30)[0] == 200
    status, seconds = pod.stop()
    assert status == 0 and seconds < 40
    wait_for(lambda: archived(cluster) >= before + 6, 60, "the calls, by the other workers")


def with_settings(cluster: Cluster, overlay: str) -> dict[str, dict[str, str]]:
    """The same values under the name of another overlay's ConfigMap."""
    (name,) = [one["metadata"]["name"] for one in objects(overlay) if one["kind"] == "ConfigMap"]
    (values,) = [values for values in cluster.given.values() if "CALLVAULT_ARCHIVE_URL" in values]
    return {name: values, **{name: cluster.given[name] for name in ("callvault", "callvault-files")}}


def test_the_pod_that_disposes_is_alive_without_a_key_of_telnyx_and_ends_within_its_grace(cluster: Cluster) -> None:
    (disposal,) = [
        one for one in with_disposal() if (one["kind"], one["metadata"]["name"]) == ("Deployment", "callvault-disposal")
    ]
    secret, credentials = dict(cluster.given["callvault"]), {}
    for name in S3_ENVIRONMENT:
        credentials[name] = secret.pop(name)
    credentials = {"CALLVAULT_DISPOSE_CREDENTIALS": "\n".join(f"{name}={value}" for name, value in credentials.items())}
    credentials |= {
        name: secret[name] for name in ("AWS_ENDPOINT_URL_S3", "TELNYX_BASE_URL")
    }  # for one's own cloud, settings
    given = cluster.given | {"callvault": secret, "callvault-disposal": credentials}
    pod = cluster.node.pod(disposal["spec"]["template"], given)
    pod.process.wait_for_output("disposal ready", 60)
    assert pod.probe("livenessProbe")
    assert "TELNYX_API_KEY" not in pod.exec(["env"])[1]
    status, text = pod.exec(["callvault", "retention", "dispose", "--dry-run"])
    assert (status, "no retention rules are applied" in text) == (1, True), text
    status, seconds = pod.stop()
    assert status == 0 and seconds < 40


def test_a_receiver_waits_for_load_balancers_and_ends_within_its_grace(cluster: Cluster) -> None:
    pod = cluster.node.pod(template("small", "callvault-receiver"), cluster.given)
    pod.wait_until_ready()
    started = time.monotonic()
    status, seconds = pod.stop()
    assert status == 0 and 10 <= seconds < 30 and time.monotonic() - started < 30
    assert not pod.probe("readinessProbe")


def test_a_valkey_ends_within_its_grace(cluster: Cluster) -> None:
    pod = cluster.node.pod(template("small", "callvault-valkey"), cluster.given)
    pod.wait_until_ready()
    status, seconds = pod.stop()
    assert status == 0 and seconds < 30


def test_while_redis_hangs_receivers_are_not_ready_and_nobody_is_restarted(cluster: Cluster) -> None:
    pid = cluster.valkey.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        for pod in cluster.receivers:
            wait_for(partial(_is_unready, pod), 30, "an unready receiver")
            assert pod.probe("livenessProbe")
        for pod in cluster.workers:
            assert pod.process.has_ended or pod.probe("livenessProbe")
    finally:
        os.kill(pid, signal.SIGCONT)
    for pod in cluster.receivers:
        wait_for(partial(pod.probe, "readinessProbe"), 30, "a ready receiver")

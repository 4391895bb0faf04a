"""The files in deploy/, and docs/cluster.md, stay valid: against Ray's own schema, the lock and our command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

import immuno
from immuno.cli.submit import prepare

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
LOCKED = dict(
    re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[a-z,]+\])?==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.M)
)
IMAGE = f"immuno-vlm:{immuno.__version__}"


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return found


@pytest.mark.parametrize("name", ["ray-cluster.yaml", "ray-cluster-aws.yaml"])
def test_the_cluster_launchers_files_are_what_ray_up_takes(name: str) -> None:
    config = read(name)
    # What `ray up` does before anything else: fills in the defaults, then holds it against Ray's schema.
    validate_config(prepare_config(config))
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(config | {"head_start_ray_comands": []}))
    for kind in ("head", "worker"):
        commands = config[f"{kind}_start_ray_commands"]
        assert commands[-1].count("ray start") == 1
        assert "RAY_AUTH_MODE=token" in commands[-1]
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for here in config["file_mounts"].values():
        assert here.startswith("~") or (ROOT / here).exists()


def test_machines_of_ones_own_are_left_as_they_are_found() -> None:
    text = (DEPLOY / "ray-cluster.yaml").read_text()
    assert "ray stop" not in text  # it would end everybody's Ray on them
    provider = read("ray-cluster.yaml")["provider"]
    assert len(provider["worker_ips"]) == read("ray-cluster.yaml")["max_workers"]


def test_the_launcher_for_aws_adds_up() -> None:
    config = read("ray-cluster-aws.yaml")
    assert config["head_node_type"] in config["available_node_types"]
    assert sum(kind.get("min_workers", 0) for kind in config["available_node_types"].values()) <= config["max_workers"]
    assert config["docker"]["image"] == IMAGE


# The fields of KubeRay's RayJob (ray.io/v1) and of a pod that we use: anything else is a slip.
CONTAINER = {"name", "image", "env", "resources", "volumeMounts"}
POD = {"containers", "volumes"}
GROUP = {"rayStartParams", "template"}
WORKERS = GROUP | {"groupName", "replicas", "minReplicas", "maxReplicas"}
CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
JOB = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec"}


def test_the_rayjob_is_one_and_runs_a_command_of_ours() -> None:
    job = read("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job) == {"apiVersion", "kind", "metadata", "spec"}
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])
    assert set(job["spec"]) == JOB
    python, flag, module, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert (python, flag, module) == ("python", "-m", "immuno")
    # Parsed as our command line does, with a configuration that is in the checkout and valid.
    assert prepare(arguments, working_dir=ROOT).arguments == tuple(arguments)
    cluster = job["spec"]["rayClusterSpec"]
    assert set(cluster) == CLUSTER
    assert cluster["rayVersion"] == LOCKED["ray"]
    assert cluster["authOptions"] == {"mode": "token"}
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert (set(head), set(workers)) == (GROUP, WORKERS)
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    for group in (head, workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        assert set(pod) == POD
        (container,) = pod["containers"]
        assert set(container) == CONTAINER
        assert container["image"] == IMAGE
        assert container["resources"]["requests"] == container["resources"]["limits"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) == volumes
        environment = {variable["name"]: variable["value"] for variable in container["env"]}
        assert set(environment) == {"IMMUNO_RUNS", "IMMUNO_CACHE", "HF_HOME"}
        assert all(value.startswith(f"{mounts['shared']}/") for value in environment.values())
    assert workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert head["rayStartParams"] == {"num-cpus": "0"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, each with its arguments in one line."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def test_the_dockerfile_copies_what_there_is_and_runs_what_it_installs() -> None:
    found = instructions()
    assert {name for name, _ in found} == {"ARG", "FROM", "WORKDIR", "RUN", "COPY", "ENV"}
    assert [name for name, _ in found[:2]] == ["ARG", "FROM"]
    left_out = [line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().split()]
    copied = set()
    for name, rest in found:
        if name != "COPY":
            continue
        *sources, target = [part for part in rest.split() if not part.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source not in left_out
            assert target in (source, "./")
            copied.add(source)
    # What the package is made of, what pyproject.toml names, and the configurations.
    assert copied >= {
        "immuno",
        "cluster",
        "agents",
        "evaluation",
        "db",
        "configs",
        "pyproject.toml",
        "LICENSE",
        "README.md",
    }
    known = {"python", "uv", "if"}
    runs = [rest for name, rest in found if name == "RUN"]
    assert {command.split()[0] for command in runs} <= known
    assert runs[0] == "python -m pip install --no-cache-dir uv"  # before its first use
    assert runs[-1] == "python -m immuno --version"
    arguments = {rest.split("=")[0] for name, rest in found if name == "ARG"}
    used = set(re.findall(r"\$\{(\w+)\}", (DEPLOY / "Dockerfile").read_text()))
    assert arguments == used


def test_images_and_versions_are_those_of_the_lock() -> None:
    image = dict(found for found in [rest.split("=", 1) for name, rest in instructions() if name == "ARG"])["RAY_IMAGE"]
    assert image.startswith(f"rayproject/ray:{LOCKED['ray']}-py311")
    for path in filter(Path.is_file, DEPLOY.iterdir()):
        text = path.read_text()
        assert not re.search(r"https?://(?!localhost)", text), path
        assert not re.search(r"--(extra-)?index-url|--find-links", text), path

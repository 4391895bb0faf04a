"""Machines that differ are named before work starts: code, packages, weights, GPUs, the store."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import EncoderSpec
from cluster.actors import preflight
from cluster.actors.preflight import Machine, Question, code_digest, differences, look, question_for, same_release
from cluster.actors.runtime import is_private
from immuno_core.errors import SetupError

from .scripts import ROOT, run_script

REPOSITORY = "laboratory/tiny-clip"
NOTHING = Question()


def said(there: Machine, question: Question = NOTHING, here: Machine | None = None) -> list[str]:
    return list(differences(here or look(question), there, question))


@pytest.mark.ray
def test_a_private_cluster_is_not_asked(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_ask", lambda *_: pytest.fail("asked"))
    assert is_private()
    assert preflight.check_machines(EncoderSpec("miniworld"), num_cpus=1, num_gpus=0) == ()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_each_machine_of_a_cluster_is_looked_at(tmp_path: Path) -> None:
    """A real cluster of three nodes, whose environments differ."""
    fake = tmp_path / "other" / "numpy-1.99.0.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.99.0\n")
    snapshot = tmp_path / "stocked" / "hub" / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").write_bytes(b"weights")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("1")
    out = run_script(
        """
        import json, os, sys, tempfile, shutil
        from pathlib import Path
        import ray
        from ray.cluster_utils import Cluster
        from cluster.actors.preflight import check_machines
        from cluster.actors.runtime import connect
        from cluster import EncoderSpec
        from immuno_core.errors import SetupError

        folder = Path(sys.argv[1])
        temporary = tempfile.mkdtemp(prefix="pre-", dir="/tmp")
        # Ray notes the newest cluster there, for any program that looks for one: not in the folder of everybody.
        os.environ["RAY_TMPDIR"] = temporary
        os.mkdir(temporary + "/ray")
        stocked = {"HF_HOME": str(folder / "stocked")}
        small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
        cluster = Cluster(True, head_node_args={"num_cpus": 3, "env_vars": stocked, **small})
        try:
            def add(cpus, gpus=0, **env):
                cluster.add_node(num_cpus=cpus, num_gpus=gpus, env_vars=env, object_store_memory=80 * 2**20)

            add(2, 1, PYTHONPATH=str(folder / "other"))
            add(3, HF_HOME=str(folder / "empty"))
            told = []
            with connect(cluster.address):
                def check(spec, num_cpus, num_gpus=0):
                    try:
                        told.append(len(check_machines(spec, num_cpus=num_cpus, num_gpus=num_gpus)))
                    except SetupError as error:
                        told.append(str(error))

                check(EncoderSpec("miniworld"), 3)
                check(EncoderSpec("hf-hub:laboratory/tiny-clip"), 3)
                check(EncoderSpec("miniworld"), 2, 1)
            print(json.dumps(told))
        finally:
            cluster.shutdown()
            shutil.rmtree(temporary, ignore_errors=True)
        """,
        str(tmp_path),
    )
    alike, hub, other = json.loads(out.splitlines()[-1])
    assert alike == 2
    assert f"the weights of {REPOSITORY} are not in the cache, and HF_HUB_OFFLINE forbids to fetch them" in hub
    assert hub.count("on ") == 1  # the machine that has them is not named
    numpy = look(NOTHING).packages["numpy"]
    assert f"numpy is 1.99.0, here it is {numpy}: install requirements.lock there too" in other
    assert other.count("numpy") == 1
    assert "Ray counts GPUs, but torch sees none" in other


def test_other_code_is_found(tmp_path: Path) -> None:
    for room in preflight.ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    same = look(NOTHING, code=tmp_path)
    assert same.code == code_digest(ROOT)
    assert said(same) == []
    (tmp_path / "cluster" / "pool.py").write_text("# another version\n")
    (problem,) = said(look(NOTHING, code=tmp_path))
    assert problem.startswith(
        f"on {same.host} the code of immuno-vlm is another than here: submit the job with --working"
    )


def test_other_packages_are_named_with_both_versions() -> None:
    here = look(NOTHING)
    there = replace(here, host="n7", packages={**here.packages, "torch": "2.9.1+cu128", "pillow": "missing"})
    assert said(there, here=here) == [
        f"on n7 torch is 2.9.1+cu128, here it is {here.packages['torch']}: install requirements.lock there too",
        f"on n7 pillow is missing, here it is {here.packages['pillow']}: install requirements.lock there too",
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2.13.0", "2.13.0+cpu", True),
        ("2.13.0+cu130", "2.13.1", True),
        ("2.13.0", "2.12.0", False),
        ("13.0", "13.0.0", True),
        ("3.11.7", "3.12.7", False),
        ("2.0.0", "missing", False),
    ],
)
def test_versions_may_differ_in_patch_and_build(one: str, other: str, same: bool) -> None:
    assert same_release(one, other) is same


def test_weights_that_are_missing_or_others_are_named(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    spec = EncoderSpec(f"local-dir:{tiny_encoder_dir}")
    question = question_for(spec)
    here = look(question)
    assert set(here.files) >= {"open_clip_config.json"}
    assert said(here, question, here) == []
    gone = look(replace(question, folder=str(tmp_path / "none")))
    missing = said(gone, question)
    assert len(missing) == len(here.files)
    assert f"the encoder's file {min(here.files)} of {tiny_encoder_dir} is missing: copy it there" in missing[0]
    files = dict(here.files)
    name = next(iter(files))
    (problem,) = said(replace(here, files={**files, name: 1}), question, here)
    assert f"the encoder's file {name} of {tiny_encoder_dir} has 1 bytes, here {files[name]}: copy it anew" in problem


def test_a_weight_file_and_a_tag_are_asked_for(tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"123")
    question = question_for(EncoderSpec("ViT-B-32", str(weights)), store="s3://bucket/store")
    assert look(question).files == {"w.pt": 3}
    assert question.store is None  # not a folder of any machine
    tag = question_for(EncoderSpec("ViT-B-32", "openai"), gpu=True)
    assert tag.hub == "timm/vit_base_patch32_clip_224.openai"
    assert "open_clip_model.safetensors" in tag.hub_files
    assert tag.gpu
    assert question_for(EncoderSpec("hf-hub:org/x")).hub == "org/x"


def test_a_store_is_seen_or_not(tmp_path: Path) -> None:
    assert look(Question(store=str(tmp_path))).sees_store
    assert not look(Question(store=str(tmp_path / "none"))).sees_store
    assert look(NOTHING).sees_store


def test_a_store_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # The tests may run as root, who may write anywhere.
        monkeypatch.setattr(preflight.os, "access", lambda path, mode: False)
        (problem,) = look(Question(store=folder)).problems
    assert f"the embedding store {folder} is not writable: let Ray's user write there" in problem


def test_a_machine_without_this_checkout_is_named() -> None:
    error = RuntimeError("ray::look() (pid=1)\n\nModuleNotFoundError: No module named 'cluster.actors.preflight'\n")
    with pytest.raises(
        SetupError, match=r"^on n7 this checkout cannot be imported .*: run the command there, as immuno sub"
    ):
        preflight._broken("n7", error)
    with pytest.raises(SetupError, match=r"^on n7 nothing can be run: OSError: no space"):
        preflight._broken("n7", RuntimeError("ray::look()\nOSError: no space"))

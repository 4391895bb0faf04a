"""Looks at every machine of a cluster before work starts: one that differs is named now, not after an hour.

A small task on each machine that could run an embedding actor tells which code and packages it has, whether the
encoder's files are there, and, where GPUs are asked for, whether torch sees one. On a private cluster, which is this
machine with this environment, nothing can differ, and nothing is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import immuno_core
from cluster.actors.runtime import is_private
from cluster.encoder.spec import HF_HUB, MINIWORLD, EncoderSpec, model_folder
from immuno_core.errors import SetupError, first_line
from immuno_core.versions import installed

ROOMS: Final = ("immuno", "immuno_core", "cluster", "agents", "evaluation", "db")
PACKAGES: Final = ("ray", "torch", "torchvision", "open_clip_torch", "numpy", "pillow", "safetensors")
"""Those that decide what an embedding is, or whether it can be sent."""
_ANSWER_SECONDS: Final = 120.0
_HUB_SECONDS: Final = 10.0
_SHOWN: Final = 3
_WEIGHT_FILES: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What every machine is asked."""

    folder: str | None = None
    """Of the model or the weight file itself, if it is on disk; "miniworld" for the one that comes with the code."""
    hub: str | None = None
    """The Hugging Face repository that the weights come from."""
    hub_files: tuple[str, ...] = ()
    """Any one of these has to be in the cache."""
    gpu: bool = False
    store: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine says of itself."""

    host: str
    code: str
    """Digest of the rooms' Python files."""
    packages: Mapping[str, str]
    """Version by name; "missing" for what is not installed."""
    files: Mapping[str, int] = field(default_factory=dict)
    """Size by name of the encoder's files."""
    problems: tuple[str, ...] = ()
    """What is wrong whatever others say."""
    sees_store: bool = True


def check_machines(
    spec: EncoderSpec, *, num_cpus: float, num_gpus: float, store: str | None = None
) -> tuple[Machine, ...]:
    """Ask every machine of the cluster that could run an actor with these resources; return what they said.

    Raises SetupError naming the machines whose code or packages are others than this program's, which lack the
    encoder's files or have different ones, cannot get it from the hub, cannot write to the store's folder although they
    see it, or have no working GPU where one is asked for.
    """
    if is_private():
        return ()
    question = question_for(spec, gpu=num_gpus > 0, store=store)
    here = look(Question(folder=question.folder))
    machines = tuple(_ask(question, num_cpus, num_gpus))
    problems = [problem for machine in machines for problem in differences(here, machine, question)]
    if problems:
        more = f" (and {len(problems) - _SHOWN} more)" if len(problems) > _SHOWN else ""
        raise SetupError("; ".join(problems[:_SHOWN]) + more)
    if blind := [machine.host for machine in machines if not machine.sees_store]:
        _log.info("the store %s is not seen on %s: embeddings come back through Ray", store, ", ".join(blind))
    return machines


def question_for(spec: EncoderSpec, *, gpu: bool = False, store: str | None = None) -> Question:
    """Return what to ask about an encoder."""
    local = store if store and "://" not in store else None
    folder = MINIWORLD if spec.model == MINIWORLD else model_folder(spec)
    if folder is None and spec.pretrained and Path(spec.pretrained).is_file():
        folder = Path(spec.pretrained)
    if folder is not None:
        return Question(folder=str(folder), gpu=gpu, store=local)
    is_hub = spec.model.startswith(HF_HUB)
    hub, files = (spec.model.removeprefix(HF_HUB), _WEIGHT_FILES) if is_hub else _hub_of_tag(spec)
    return Question(hub=hub, hub_files=files, gpu=gpu, store=local)


def look(question: Question, *, code: Path | None = None) -> Machine:
    """Return what this machine is; `code` is the folder of the rooms (default: where they are imported from)."""
    return Machine(
        host=socket.gethostname(),
        code=code_digest(code or Path(immuno_core.__file__).resolve().parent.parent),
        packages={"python": platform.python_version(), **installed(PACKAGES)},
        files=_sizes(question.folder),
        problems=tuple(_problems(question)),
        sees_store=question.store is None or Path(question.store).is_dir(),
    )


def differences(here: Machine, there: Machine, question: Question) -> Iterator[str]:
    """Yield what keeps a machine from working for a program on another one, each with what to do about it."""
    at = f"on {there.host}"
    yield from there.problems
    if there.code != here.code:
        yield (
            f"{at} the code of immuno-vlm is another than here: submit the job with --working-dir, which brings its "
            "code along, or check out the same commit there"
        )
    for name, version in here.packages.items():
        other = there.packages.get(name, "missing")
        if not same_release(version, other):
            yield f"{at} {name} is {other}, here it is {version}: install requirements.lock there too"
    if question.folder is not None:
        for name, size in here.files.items():
            if name not in there.files:
                yield (
                    f"{at} the encoder's file {name} of {question.folder} is missing: copy it there, or put it into "
                    "a folder that all machines share"
                )
            elif there.files[name] != size:
                yield (
                    f"{at} the encoder's file {name} of {question.folder} has {there.files[name]} bytes, here {size}: "
                    "copy it anew"
                )


def same_release(one: str, other: str) -> bool:
    """Whether two versions agree up to the minor number: 2.13.0+cpu and 2.13.1 do, 2.13 and 2.14 do not."""
    return re.split(r"[.+]", one)[:2] == re.split(r"[.+]", other)[:2]


def code_digest(root: Path) -> str:
    """Return the SHA-256 over the names and contents of the rooms' Python files."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _ask(question: Question, num_cpus: float, num_gpus: float) -> Iterator[Machine]:
    """Yield the answers; a machine that is lost meanwhile gives none, and others will do its work."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    # It takes no resources, or would wait for those that others hold. Torch, once loaded, keeps what it saw of GPUs.
    task: Any = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(look)
    asked = {}
    for node in nodes:
        resources = node["Resources"]
        if node["Alive"] and resources.get("CPU", 0) >= num_cpus and resources.get("GPU", 0) >= num_gpus:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[task.options(scheduling_strategy=strategy).remote(question)] = node["NodeManagerHostname"]
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS) if asked else ([], [])
    for answer in done:
        try:
            yield ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            _broken(asked[answer], error)
        except ray.exceptions.RayError as error:
            _log.warning("%s does not answer: %s", asked[answer], first_line(error))
    for answer in late:
        ray.cancel(answer, force=True)
        _log.warning("%s has not answered for %.0f s", asked[answer], _ANSWER_SECONDS)


def _broken(host: str, error: Exception) -> NoReturn:
    said = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
    if "No module named" in str(error):
        raise SetupError(
            f"on {host} this checkout cannot be imported ({said}): run the command there, as "
            "immuno submit -- ..., or ray job submit --working-dir . -- python -m immuno ..."
        ) from error
    raise SetupError(f"on {host} nothing can be run: {said}") from error


def _problems(question: Question) -> Iterator[str]:
    at = f"on {socket.gethostname()}"
    if question.hub is not None and (why := _unobtainable(question.hub, question.hub_files)):
        yield f"{at} the weights of {question.hub} are not in the cache, and {why}"
    if question.gpu and not _torch_sees_a_gpu():
        yield (
            f"{at} Ray counts GPUs, but torch sees none: its CUDA build or the driver is missing there; mend that, or "
            "set [cluster] num_gpus = 0"
        )
    if question.store is not None and Path(question.store).is_dir() and not os.access(question.store, os.W_OK):
        yield f"{at} the embedding store {question.store} is not writable: let Ray's user write there"


def _unobtainable(repository: str, files: Sequence[str]) -> str | None:
    """Why the weights of a hub's repository cannot be had here; None where they can."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(repository, name), str) for name in files):
        return None
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids to fetch them: download them there, share HF_HOME, or name a local-dir:"
    try:
        HfApi().model_info(repository, timeout=_HUB_SECONDS)
    except Exception as error:  # noqa: BLE001 - no network, no right, no such name: the client has one for each
        return f"they cannot be fetched there ({type(error).__name__}): share HF_HOME, or name a local-dir:"
    return None


def _hub_of_tag(spec: EncoderSpec) -> tuple[str | None, tuple[str, ...]]:
    """The repository of an architecture's pretrained tag, and the files that may hold its weights."""
    import open_clip

    settings = open_clip.get_pretrained_cfg(spec.model.replace("/", "-"), spec.pretrained or "") or {}
    repository, _, name = str(settings.get("hf_hub", "")).rpartition("/")
    if not repository:
        return None, ()
    names = (name, f"{Path(name).stem}.safetensors") if name else ()
    return repository, (*names, *_WEIGHT_FILES)


def _torch_sees_a_gpu() -> bool:
    # Ray may hide the GPUs from a task that asks for none.
    with contextlib.suppress(KeyError):
        del os.environ["CUDA_VISIBLE_DEVICES"]
    import torch

    return torch.cuda.is_available()


def _sizes(folder: str | None) -> dict[str, int]:
    if folder is None:
        return {}
    path = model_folder(EncoderSpec(MINIWORLD)) if folder == MINIWORLD else Path(folder)
    if path is not None and path.is_file():
        return {path.name: path.stat().st_size}
    if path is None or not path.is_dir():
        return {}
    return {file.name: file.stat().st_size for file in sorted(path.iterdir()) if file.is_file()}

"""A shield as a folder: what `immuno guard export` writes, and whatever deploys it reads. No pickle.

shield.json                what it is, in words and numbers, and the digest of every other file
head-*.safetensors         the arrays of the score (evaluation.shield.head)
calibration-*.safetensors  how known images score (evaluation.shield.thresholds)
known-*.safetensors        embeddings of the known images, from which it grows; a shield may go without
head-*.onnx                the head for onnxruntime, where that was asked for

Files are named after their content and shield.json is written last, so that a folder that is read while it changes is
always a whole shield: the one before, or the one after. A byte that was changed is found, and refused, on loading.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensors_as_bytes
from torch import Tensor

from evaluation.scores.calibrated import Calibrated, FittedCalibrated
from evaluation.shield.calibration import judge_known, with_known
from evaluation.shield.head import Head, HeadSettings, JudgedArrays, check_head
from evaluation.shield.thresholds import (
    DEFAULT_ACCEPT,
    DEFAULT_REVIEW,
    TABLES,
    KnownScores,
    Thresholds,
)
from evaluation.shield.verdicts import ShieldVerdict, verdicts
from evaluation.space import Bank, Feedback, Space
from immuno_core.errors import SetupError, first_line
from immuno_core.features import FeatureSet, FloatArray, IntArray
from immuno_core.files import read_bytes, write_atomically
from immuno_core.records import Antibody, AntibodyKind, EncoderInfo
from immuno_core.text import printable, strict_json

SHIELD_FILE: Final = "shield.json"
SCHEMA_VERSION: Final = 1
_MOST_BYTES: Final = 16 * 2**30
_RECORD = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_PLAIN_NAME: Final = r"^[a-z]+-[0-9a-f]{16}\.(safetensors|onnx)$"
Role = Literal["head", "calibration", "known", "onnx"]


class File(BaseModel):
    """A file beside shield.json."""

    model_config = _RECORD
    name: Annotated[str, Field(pattern=_PLAIN_NAME)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: int


class ShieldEncoder(BaseModel):
    """The encoder whose embeddings it judges; see EncoderInfo. `kind` and `fast_decode` as in [encoder]."""

    model_config = _RECORD
    kind: Literal["open_clip", "precomputed"] = "open_clip"
    model: str
    pretrained: str | None
    dim: int
    logit_scale: float
    image_size: int
    precision: Literal["fp32", "fp16", "bf16"]
    weights_digest: str
    preprocess_digest: str
    fast_decode: bool = False

    @property
    def info(self) -> EncoderInfo:
        """The record of it."""
        return EncoderInfo(**self.model_dump(exclude={"kind", "fast_decode"}))


class ShieldAntibody(BaseModel):
    """An antibody of the bank, in the order of its row; those with a text come first."""

    model_config = _RECORD
    id: str
    text: str
    kind: AntibodyKind
    guards: str = ""
    origin: str = ""
    samples: tuple[str, ...] = ()

    @classmethod
    def of(cls, antibody: Antibody) -> Self:
        """Return what a shield keeps of an antibody."""
        return cls(**{name: getattr(antibody, name) for name in cls.model_fields})

    @cached_property
    def record(self) -> Antibody:
        """The antibody."""
        return Antibody(**self.model_dump())


class Provenance(BaseModel):
    """Where a shield comes from."""

    model_config = _RECORD
    created: str
    session: str = ""
    generation: int | None = None
    config_digest: str = ""
    git_sha: str | None = None
    versions: dict[str, str] = {}
    licence: str = ""
    changes: tuple[str, ...] = ()
    """What was done to it since it was exported, a line each."""


class Manifest(BaseModel):
    """The content of shield.json."""

    model_config = _RECORD
    format: Literal["immuno shield"] = "immuno shield"
    schema_version: Annotated[int, Field(ge=1)] = SCHEMA_VERSION
    encoder: ShieldEncoder
    method: str
    classes: tuple[str, ...]
    class_template: str
    antibodies: tuple[ShieldAntibody, ...]
    head: HeadSettings
    parameters: dict[str, Any]
    """Of the score `calibrated`, with which the head is fitted again when the shield grows."""
    thresholds: Thresholds
    calibrated_on: Annotated[int, Field(ge=1)]
    """Known images."""
    provenance: Provenance
    files: dict[Role, File] = {}
    digest: str = ""
    """SHA-256 of all the rest of this file."""

    def sealed(self) -> Self:
        """Return it with its digest."""
        bare = self.model_dump(mode="json", exclude={"digest"})
        return self.model_copy(update={"digest": hashlib.sha256(_canonical(bare)).hexdigest()})


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True, eq=False)
class Known:
    """The known images behind a shield, as embeddings; see Space.fit and Feedback.

    `visual` (V, d) are the centres of its visual antibodies.
    """

    texts: FloatArray
    fit: FloatArray | None
    fit_labels: IntArray | None
    known: FloatArray | None
    """None where these are the fit images, in `parts`."""
    labels: IntArray | None
    parts: IntArray | None
    visual: FloatArray

    @classmethod
    def of(cls, space: Space, bank: Bank) -> Self:
        """Take them from a space as `with_known` gives it."""
        feedback = space.feedback
        apart = feedback if feedback is not None and feedback.parts is None else None
        return cls(
            texts=space.texts,
            fit=None if space.fit is None else space.fit.features,
            fit_labels=space.fit_labels,
            known=None if apart is None else apart.known.features,
            labels=None if apart is None else apart.labels,
            parts=None if feedback is None else feedback.parts,
            visual=bank.visual.vectors,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return what is there by name."""
        return {name: torch.from_numpy(np.array(array)) for name, array in vars(self).items() if array is not None}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return what `tensors` gave."""
        arrays: dict[str, Any] = dict.fromkeys(cls.__dataclass_fields__)
        return cls(**arrays | {name: tensor.numpy() for name, tensor in tensors.items() if name in arrays})


@dataclass(frozen=True, eq=False)
class Artefact:
    """A shield in memory: what the folder holds."""

    manifest: Manifest
    head: Head
    calibration: KnownScores
    known: Known | None

    @classmethod
    def make(
        cls,
        space: Space,
        fitted: FittedCalibrated,
        *,
        encoder: ShieldEncoder,
        method: str,
        class_template: str,
        provenance: Provenance,
        accept: float = DEFAULT_ACCEPT,
        review: float = DEFAULT_REVIEW,
        per_class: bool = False,
        keep_known: bool = True,
    ) -> Self:
        """Make a shield of a score that was fitted on a space, whose known images set the thresholds.

        Raises SetupError for a space without known images.
        """
        # Without fit images visual antibodies have no term, and are none of the score's.
        bank = fitted.bank if fitted.sight is not None else fitted.bank.worded
        space, fitted = with_known(space), replace(fitted, bank=bank)
        judged = judge_known(space, fitted)
        head = Head.of(fitted)
        manifest = Manifest(
            encoder=encoder,
            method=method,
            classes=space.classes,
            class_template=class_template,
            antibodies=tuple(ShieldAntibody.of(one) for one in bank.antibodies),
            head=head.settings,
            parameters=asdict(fitted.parameters),
            thresholds=Thresholds.of(judged, space.classes, accept=accept, review=review, per_class=per_class),
            calibrated_on=len(judged.score),
            provenance=provenance,
        )
        known = Known.of(space, bank) if keep_known else None
        return cls(manifest, head, KnownScores.of(judged, len(bank)), known)

    def calibrated(self, judged: JudgedArrays, thresholds: Thresholds, change: str) -> Self:
        """Return the shield with thresholds and calibration by other known images, judged by it (n >= 1)."""
        provenance = self.manifest.provenance
        manifest = self.manifest.model_copy(
            update={
                "thresholds": thresholds,
                "calibrated_on": len(judged.score),
                "provenance": provenance.model_copy(update={"changes": (*provenance.changes, change)}),
            }
        )
        return replace(self, manifest=manifest, calibration=KnownScores.of(judged, len(manifest.antibodies)))

    @cached_property
    def radii(self) -> list[float]:
        """Of each antibody; of a visual one as its similarity is measured."""
        tensors = dict(self.head.named_buffers())
        return [*tensors["radii"].tolist(), *(tensors["visual_radii"].tolist() if "visual_radii" in tensors else ())]

    @cached_property
    def antibodies(self) -> tuple[Antibody, ...]:
        """In the order of their rows."""
        return tuple(one.record for one in self.manifest.antibodies)

    def verdicts(self, features: FloatArray, images: list[str]) -> tuple[list[ShieldVerdict], JudgedArrays]:
        """Return what is said of embedded images (n, d), and the numbers behind it."""
        judged = self.head.judge(features)
        said = verdicts(
            judged,
            images,
            classes=self.manifest.classes,
            antibodies=self.antibodies,
            radii=self.radii,
            thresholds=self.manifest.thresholds,
            calibration=self.calibration,
        )
        return said, judged

    def space(self) -> Space:
        """Return the space that it is fitted on: its classes, known images and antibodies.

        Raises SetupError for a shield that was exported without its known images.
        """
        manifest, known = self.manifest, self.known
        if known is None:
            raise SetupError(
                "this shield was exported without the embeddings of its known images, so nothing can be fitted anew; "
                "export it again without --no-known"
            )
        worded = dict(self.head.named_buffers())["antibodies"].numpy()
        vectors = np.concatenate([worded, known.visual]) if len(known.visual) else worded
        fit = None if known.fit is None or known.fit_labels is None else self._set("fit", known.fit, known.fit_labels)
        feedback: Feedback | None = None
        if known.parts is not None and fit is not None and known.fit_labels is not None:
            feedback = Feedback(replace(fit, split="feedback"), known.fit_labels, {}, known.parts)
        elif known.known is not None and known.labels is not None:
            feedback = Feedback(self._set("feedback", known.known, known.labels), known.labels, {})
        bank = Bank(tuple(self.antibodies), vectors.astype(np.float32))
        return Space(
            manifest.classes,
            known.texts,
            manifest.encoder.logit_scale,
            fit,
            known.fit_labels,
            bank,
            feedback,
        )

    def _set(self, split: Literal["fit", "feedback"], features: FloatArray, labels: IntArray) -> FeatureSet:
        ids = tuple(str(row) for row in range(len(features)))
        return FeatureSet("id", split, features, ids, tuple(self.manifest.classes[k] for k in labels), ids)

    def fit(self, space: Space) -> FittedCalibrated:
        """Return the score fitted anew on a space, with the settings of this shield."""
        return Calibrated(**self.manifest.parameters).fit(space)

    def save(self, folder: Path, *, onnx: bytes | None = None) -> Manifest:
        """Write it, in place of the shield that is there; return the manifest. Raises SetupError where that fails."""
        calibration = self.calibration
        tables = {name: torch.from_numpy(np.ascontiguousarray(table)) for name, table in calibration.tables.items()}
        contents: dict[Role, tuple[str, bytes]] = {
            "head": ("safetensors", tensors_as_bytes(dict(self.head.named_buffers()))),
            "calibration": (
                "safetensors",
                tensors_as_bytes({**tables, "fired": torch.from_numpy(np.ascontiguousarray(calibration.fired))}),
            ),
        }
        if self.known is not None:
            contents["known"] = ("safetensors", tensors_as_bytes(self.known.tensors()))
        if onnx is not None:
            contents["onnx"] = ("onnx", onnx)
        files: dict[Role, File] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            before = _named_files(folder)
            for role, (ending, content) in contents.items():
                digest = hashlib.sha256(content).hexdigest()
                stem = "head" if role == "onnx" else role
                files[role] = File(name=f"{stem}-{digest[:16]}.{ending}", sha256=digest, bytes=len(content))
                write_atomically(folder / files[role].name, content)
            manifest = self.manifest.model_copy(update={"files": files}).sealed()
            write_atomically(folder / SHIELD_FILE, manifest.model_dump_json(indent=1) + "\n")
            for name in before - {file.name for file in files.values()}:
                (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise SetupError(
                f"cannot write the shield to {folder}: {error.strerror or error}; what was there is as it was"
            ) from None
        return manifest

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a shield, and check every byte of it.

        Raises SetupError naming the file for a folder that is none, one of a later version, and whatever was changed.
        """
        manifest = read_manifest(folder)
        head_tensors = _tensors(folder, manifest, "head")
        try:
            check_head(head_tensors, manifest.head, classes=len(manifest.classes), antibodies=len(manifest.antibodies))
        except SetupError as error:
            raise SetupError(f"{folder / manifest.files['head'].name} is no head of this shield: {error}") from None
        tables = _tensors(folder, manifest, "calibration")
        shapes = {name: len(table) for name, table in tables.items() if table.ndim == 1}
        if not all(shapes.get(name) for name in TABLES) or shapes.get("fired") != len(manifest.antibodies):
            raise SetupError(
                f"{folder / manifest.files['calibration'].name} is no calibration of this shield; export it again"
            )
        calibration = KnownScores(
            {name: tables[name].numpy() for name in TABLES}, tables["fired"].numpy(), manifest.calibrated_on
        )
        known = Known.from_tensors(_tensors(folder, manifest, "known")) if "known" in manifest.files else None
        return cls(manifest, Head(head_tensors, manifest.head).eval(), calibration, known)


def read_manifest(folder: Path) -> Manifest:
    """Read shield.json alone, and check it. Raises SetupError as `Artefact.load` does."""
    path = folder / SHIELD_FILE
    if not folder.is_dir() or not path.exists():
        what = "no folder" if not folder.exists() else f"no {SHIELD_FILE}"
        raise SetupError(f"no shield at {folder}: {what}; make one with immuno guard export -o {folder}")
    raw = read_bytes(path, "shield")
    try:
        content = strict_json(raw)
    except ValueError as error:
        raise SetupError(f"{path} is not valid JSON ({first_line(error)}); export the shield again") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(content, dict) or content.get("format") != "immuno shield" or not isinstance(version, int):
        raise SetupError(f"{path} is not the {SHIELD_FILE} of a shield; export the shield again")
    if version > SCHEMA_VERSION:
        raise SetupError(
            f"{path} is of version {version}, made by a later immuno-vlm; this one reads up to {SCHEMA_VERSION}: "
            "upgrade it (pip install --upgrade immuno-vlm)"
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SetupError(f"{path}: '{where}': {first['msg']}; export the shield again") from None
    if manifest.sealed().digest != manifest.digest:
        raise SetupError(f"{path} was changed since it was written; export the shield again")
    return manifest


def _tensors(folder: Path, manifest: Manifest, role: Role) -> dict[str, Tensor]:
    content = file_of(folder, manifest, role)
    try:
        return read_tensors(content)
    except (SafetensorError, ValueError) as error:
        raise SetupError(f"{folder / manifest.files[role].name} cannot be read: {first_line(error)}") from None


def file_of(folder: Path, manifest: Manifest, role: Role) -> bytes:
    """Return what is in a file of a shield. Raises SetupError where it is missing, or a byte of it was changed."""
    if role not in manifest.files:
        raise SetupError(f"the shield at {folder} has no file '{role}'; export it again")
    file = manifest.files[role]
    path = folder / file.name
    content = read_bytes(path, "file of the shield", hint="export the shield again", most=_MOST_BYTES)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise SetupError(f"{printable(str(path))} was changed since the shield was written; export the shield again")
    return content


def _named_files(folder: Path) -> set[str]:
    """Files that an earlier shield left in a folder."""
    return {path.name for path in folder.iterdir() if re.fullmatch(_PLAIN_NAME.strip("^$"), path.name)}

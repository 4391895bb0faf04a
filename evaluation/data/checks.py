"""A check of all the sets that a configuration names, before anything is computed: every problem at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from evaluation.data.classes import MEND_EMPTY, read_classes, without_images
from evaluation.data.feature_files import is_feature_set, read_features
from evaluation.data.precomputed import PrecomputedEmbedder
from evaluation.data.sources import Listing, Role
from immuno_core.config.run import DataConfig, RunConfig, SourceConfig
from immuno_core.errors import SetupError, did_you_mean
from immuno_core.records import ImageSet, Split, told


class _Named(NamedTuple):
    name: str
    source: SourceConfig
    role: Role
    split: Split


def check_sources(config: RunConfig, listing: Listing | None = None) -> list[str]:
    """Return what is wrong with the data of a configuration, a line for each problem; nothing if all is well.

    Looks for missing and empty paths, another number of images than `expected`, labels of known images that are not
    classes, malformed lists, tars and feature files, and, for a precomputed encoder, a malformed table, images without
    embeddings and other dimensions, and for files that are in two sets which must be apart. Lists the
    sealed sets and opens no image of them. The mini-world, right by construction, is not drawn.
    """
    problems: list[str] = []
    listing = listing or Listing()
    classes: tuple[str, ...] = ()
    source_of_classes = config.data.fit or config.data.id
    if config.classes.names != "dataset" or source_of_classes.builtin is None:
        try:
            classes = read_classes(config.classes, config.data, seed=config.seed, listing=listing)
        except SetupError as error:
            problems.append(str(error))
    dim: int | None = None
    if config.encoder.kind == "precomputed":
        try:
            dim = PrecomputedEmbedder(config.encoder).encoder.dim
        except SetupError as error:
            problems.append(str(error))
    listed: list[tuple[_Named, ImageSet]] = []
    for named in _sources(config.data):
        problems += _check(named, config, classes, dim, listed, listing)
    if config.data.overlap == "error":
        problems += _shared_files(listed)
    return list(dict.fromkeys(problems))


def _shared_files(listed: Sequence[tuple[_Named, ImageSet]]) -> Iterator[str]:
    """A line for each pair of sets that must be apart and share files; images that are copies are found later."""
    files = [{os.path.realpath(sample.path): sample.path for sample in images.samples} for _, images in listed]
    for i, (later, _) in enumerate(listed):
        for j, (earlier, _) in enumerate(listed[:i]):
            both_sealed_outliers = later.split == earlier.split == "test" and later.role == earlier.role
            shared = [] if both_sealed_outliers else [path for path in files[i] if path in files[j]]
            if shared:
                yield (
                    f"{len(shared)} image(s) of {later.name} are in {earlier.name} too (first: {files[i][shared[0]]}); "
                    f'separate the sets, or write [data] overlap = "drop" to leave these out of {later.name}'
                )


def _sources(data: DataConfig) -> Iterator[_Named]:
    if data.fit is not None:
        yield _Named("data.fit", data.fit, "id", "fit")
    if data.feedback_id is not None:
        yield _Named("data.feedback_id", data.feedback_id, "id", "feedback")
    for source in data.feedback:
        yield _Named(f"data.feedback {source.name}", source, "outlier", "feedback")
    yield _Named("data.id", data.id, "id", "test")
    for source in data.ood:
        yield _Named(f"data.ood {source.name}", source, "outlier", "test")


def _check(
    named: _Named,
    config: RunConfig,
    classes: Sequence[str],
    dim: int | None,
    listed: list[tuple[_Named, ImageSet]],
    listing: Listing,
) -> Iterator[str]:
    """Yield the problems of one source, and add what it lists to `listed`."""
    source = named.source
    if source.builtin is not None:
        return
    try:
        # Only of known images are labels resolved by the classes.
        resolving, seed = classes if named.role == "id" else (), config.seed
        images = listing.images(
            source, name=named.name, role=named.role, split=named.split, seed=seed, classes=resolving
        )
    except SetupError as error:
        yield str(error)
        return
    listed.append((named, images))
    # Where there are no fit images, a class without any is one of the list that the known test images gave.
    of_names = config.data.id if config.classes.names == "dataset" else None
    count = len(images.samples)
    if source.expected is not None and count != source.expected:
        others = f"; left out: {', '.join(told(images.left_out))}" if images.left_out else ""
        yield (
            f"set '{named.name}': {count} images in {source.path or source.features or source.shield_log}, "
            f"expected {source.expected}; complete it, or correct `expected`{others}"
        )
    if named.role == "id" and classes:
        labels = {sample.label for sample in images.samples}
        unknown = sorted(labels - set(classes))
        if unknown:
            yield (
                f"set '{named.name}': {len(unknown)} of its {len(labels)} labels are not in the class list, "
                f"'{unknown[0]}' among them{did_you_mean(unknown[0], classes)}"
            )
        if named.source == (config.data.fit or of_names) and not config.classes.allow_empty:
            empty = without_images(classes, labels, what=f"image in {source.path or source.features}")
            if empty:
                yield f"set '{named.name}': {empty}; {MEND_EMPTY}"
    if is_feature_set(images):
        yield from _check_features(named, dim)
    elif config.encoder.kind == "precomputed":
        yield f"set '{named.name}' has images, which an encoder of kind precomputed cannot embed; give features"


def _check_features(named: _Named, dim: int | None) -> Iterator[str]:
    if named.source.features is None:
        return
    try:
        width = read_features(named.source.features).shape[1]
    except SetupError as error:
        yield str(error)
        return
    if dim is not None and width != dim:
        yield f"set '{named.name}': {named.source.features} has vectors of {width} dimensions, the texts have {dim}"

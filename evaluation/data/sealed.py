"""The sealed test split: it is handed out only when it is opened, and every opening is recorded first.

The agents' room may not import this module; an import-linter contract checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.data.contents import state_of
from evaluation.data.sources import Listing, Role
from immuno_core.config.run import DataConfig, SourceConfig
from immuno_core.errors import SetupError
from immuno_core.progress import ProgressReport
from immuno_core.records import ID_SET, ImageSet

OnOpen = Callable[[tuple[str, ...], str], None]
"""Called as `on_open(set_names, reason)`; it records the reading, and what it raises keeps the seal closed."""


@dataclass(frozen=True, slots=True)
class OpenedTest:
    """The sealed sets: known images and outliers, all of the split `test`."""

    id: ImageSet
    ood: tuple[ImageSet, ...]


class SealedTest:
    """The sources `data.id` and `data.ood`; making one reads nothing.

    `classes` resolve labels that are indices or WordNet ids (evaluation.data.labels).
    Raises SetupError for an outlier set that is called like the known one.
    """

    def __init__(
        self, data: DataConfig, *, seed: int, classes: Sequence[str] = (), listing: Listing | None = None
    ) -> None:
        """What is in the `listing` is not looked at again."""
        self._id, self._seed, self._classes = data.id, seed, tuple(classes)
        self._listing = listing
        self._ood = tuple((source.name or "", source) for source in data.ood)
        if ID_SET in (name for name, _ in self._ood):
            raise SetupError(f"an outlier set is called '{ID_SET}', like the known test images; give it another name")

    @property
    def set_names(self) -> tuple[str, ...]:
        """The names of the sets, the known one first."""
        return (ID_SET, *(name for name, _ in self._ood))

    def digest(self, progress: ProgressReport | None = None) -> str:
        """Return what tells whether the test is still the same: names, labels and the bytes of the files.

        Decodes no image and hands none out, so it breaks no seal. Raises SetupError for a bad source.
        """
        sets = self._listed()
        return state_of((sets.id, *sets.ood), progress)

    def files(self) -> dict[str, tuple[str, ...]]:
        """Return where the images of each set are, so that what is stored of them can be checked and kept.

        Opens no image and hands out no label, so it breaks no seal. Raises SetupError for a bad source.
        """
        sets = self._listed()
        return {images.name: tuple(sample.path for sample in images.samples) for images in (sets.id, *sets.ood)}

    def open(self, reason: str, *, on_open: OnOpen) -> OpenedTest:
        """Record the reading with its reason, then hand out the image sets.

        Raises SetupError for an empty reason, and for a bad source as `evaluation.data.sources.Listing.images` does.
        """
        if not reason.strip():
            raise SetupError("the sealed test is opened for a reason; say which")
        on_open(self.set_names, reason)
        return self._listed()

    def _listed(self) -> OpenedTest:
        return OpenedTest(
            id=self._read(self._id, ID_SET, "id", self._classes),
            ood=tuple(self._read(source, name, "outlier", ()) for name, source in self._ood),
        )

    def _read(self, source: SourceConfig, name: str, role: Role, classes: Sequence[str]) -> ImageSet:
        listing = self._listing or Listing()
        return listing.images(source, name=name, role=role, split="test", seed=self._seed, classes=classes)

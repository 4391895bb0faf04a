"""An opt-in log of rejected images, which the next session takes as feedback: `[[data.feedback]] shield_log = "DIR"`.

DIR/images/*          what the files held, each image once, named by its content
DIR/rejected.txt      their list, as evaluation.data.sources reads lists of images
DIR/verdicts.jsonl    what the shield said of each
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from PIL import Image

from evaluation.shield.verdicts import ShieldVerdict
from immuno_core.config.run import LOGGED
from immuno_core.errors import SetupError
from immuno_core.files import write_atomically
from immuno_core.images import open_image, readable_formats

DEFAULT_MOST: Final = 10_000
_MOST_BYTES: Final = 64 * 2**20


class RejectedLog:
    """Keeps rejected images, up to `most` of them. Any thread may add. Nobody else may write to its folder."""

    def __init__(self, folder: Path, most: int = DEFAULT_MOST) -> None:
        """Go on with what is there. Raises SetupError where the folder cannot be written to."""
        self.folder, self.most, self._lock = folder, most, threading.Lock()
        try:
            (folder / "images").mkdir(parents=True, exist_ok=True)
            (folder / LOGGED).touch()
            self._names = {path.stem for path in (folder / "images").iterdir() if not path.name.startswith(".")}
        except OSError as error:
            raise SetupError(f"cannot log rejected images to {folder}: {error.strerror or error}") from None
        self.lost = ""
        """Why the last image that should have been kept was not; "" where none was lost."""

    def __len__(self) -> int:
        return len(self._names)

    @property
    def is_full(self) -> bool:
        """Whether no image is kept any more."""
        return len(self) >= self.most

    def add(self, images: Sequence[object], verdicts: Sequence[ShieldVerdict]) -> int:
        """Keep those images (paths, bytes or pictures) whose verdict is that they are rejected; return how many anew.

        What cannot be kept is in `lost`: judging goes on whatever becomes of the log.
        """
        kept = 0
        for image, verdict in zip(images, verdicts, strict=True):
            if verdict.outcome == "rejected" and not self.is_full:
                try:
                    kept += self._keep(image, verdict)
                except (OSError, ValueError) as error:
                    self.lost = str(error)
        return kept

    def _keep(self, image: object, verdict: ShieldVerdict) -> bool:
        content, ending = _content(image)
        name = hashlib.sha256(content).hexdigest()[:32]
        with self._lock:
            if name in self._names:
                return False
            write_atomically(self.folder / "images" / f"{name}.{ending}", content, sync=False)
            said = {"file": f"images/{name}.{ending}", "at": datetime.now(UTC).isoformat(), **verdict.as_dict()}
            with (self.folder / "verdicts.jsonl").open("a", encoding="utf-8") as verdicts:
                verdicts.write(json.dumps(said, allow_nan=False) + "\n")
            with (self.folder / LOGGED).open("a", encoding="utf-8") as listed:
                listed.write(f"images/{name}.{ending}\n")
            self._names.add(name)
            return True


def _content(image: object) -> tuple[bytes, str]:
    """What an image file holds, and the suffix of its format. Raises OSError or ValueError."""
    if isinstance(image, Image.Image):
        stream = io.BytesIO()
        image.convert("RGB").save(stream, "PNG")
        return stream.getvalue(), "png"
    if isinstance(image, bytes):
        content = image
    else:
        with open_image(str(image)) as opened:
            content = opened.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"an image of more than {_MOST_BYTES // 2**20} MiB is not logged")
    with Image.open(io.BytesIO(content), formats=readable_formats()) as opened_image:
        return content, str(opened_image.format or "png").lower()

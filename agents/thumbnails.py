"""Mis-accepted images as small pictures, for chat models that see.

A picture is drawn anew, small, without metadata: nothing of the file but what it shows leaves the machine.
"""

from __future__ import annotations

import base64
import io

from evaluation.pictures import open_on_white

SIDE = 160
"""Pixels of the longer side."""
MOST_BYTES = 48_000
"""Of one picture, before base64: a JPEG of this side and quality seldom has a third of it."""
_QUALITY = 80


def thumbnail(path: str) -> str | None:
    """Return the image at `path` (evaluation.locations) as a data URL of a JPEG; None where there is no picture."""
    picture = open_on_white(path, SIDE)
    if picture is None:
        return None
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    content = buffer.getvalue()
    if len(content) > MOST_BYTES:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"

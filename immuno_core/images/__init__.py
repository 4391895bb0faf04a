"""Images, as the paths of samples say where they are, and those that are made of others when they are opened."""

from immuno_core.images.composites import HOW, How
from immuno_core.images.places import (
    FeatureRow,
    MadeImage,
    TarMember,
    containing_file,
    containing_files,
    feature_row,
    made_image,
    open_image,
    open_on_white,
    readable_formats,
    tar_member,
)

__all__ = [
    "HOW",
    "FeatureRow",
    "How",
    "MadeImage",
    "TarMember",
    "containing_file",
    "containing_files",
    "feature_row",
    "made_image",
    "open_image",
    "open_on_white",
    "readable_formats",
    "tar_member",
]

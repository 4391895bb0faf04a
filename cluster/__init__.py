"""Ray: encoders, embedding actors, shards and their store. The only room that runs models over images.

`embedder` is the way in; it hands out what `store` holds, and lets `pool` do the rest on `actor`s in a cluster that
`runtime` joins or starts. `encoder` is the model itself. Importing this package loads neither torch nor Ray.
"""

from cluster.encoder.spec import EncoderSpec
from cluster.local_embedder import LocalEmbedder
from cluster.ray_embedder import RayEmbedder, make_embedder
from immuno_core.progress import ProgressReport, RichProgress, SilentProgress

__all__ = [
    "EncoderSpec",
    "LocalEmbedder",
    "ProgressReport",
    "RayEmbedder",
    "RichProgress",
    "SilentProgress",
    "make_embedder",
]

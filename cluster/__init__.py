"""Ray: encoders, embedding actors, shards and their store. The only room that runs models over images.

`embedder` is the way in; it hands out what `store` holds, and lets `actors` do the rest in a cluster that
`actors.runtime` joins or starts. `encoder` is the model itself. What others use is re-exported here, and loaded when it
is asked for.
"""

from typing import TYPE_CHECKING

from immuno_core.doors import door

if TYPE_CHECKING:
    from cluster.encoder.spec import EncoderSpec as EncoderSpec
    from cluster.local_embedder import LocalEmbedder as LocalEmbedder
    from cluster.ray_embedder import RayEmbedder as RayEmbedder
    from cluster.ray_embedder import make_embedder as make_embedder

__getattr__ = door(
    __name__,
    {
        "EncoderSpec": "encoder.spec",
        "LocalEmbedder": "local_embedder",
        "RayEmbedder": "ray_embedder",
        "make_embedder": "ray_embedder",
    },
)

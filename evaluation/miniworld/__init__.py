"""The mini-world: a procedurally drawn, captioned world and a small open_clip model trained on it.

It is the world the tool works on when it is given no other, and it needs neither downloads nor a GPU. `build` draws a
world into a folder of PNG files, without torch.

    from evaluation.miniworld import build, default_root
    world = build(default_root(seed=0), seed=0)
    world.folder("test", "near")  # a folder of images
"""

from evaluation.miniworld.model import CHECKPOINT
from evaluation.miniworld.vocabulary import KNOWN_CLASSES
from evaluation.miniworld.world import MANIFEST_FILE, SETS, MiniWorld, Sizes, build, default_root

__all__ = ["CHECKPOINT", "KNOWN_CLASSES", "MANIFEST_FILE", "SETS", "MiniWorld", "Sizes", "build", "default_root"]

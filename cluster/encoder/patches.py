"""Patch embeddings of a CLIP image tower, in the space of its texts: what GL-MCM (arXiv 2304.04521) looks at.

CLIP pools its patches by attention and trains only the pooled vector. MaskCLIP (Zhou et al., ECCV 2022, arXiv
2112.01071) leaves out the last attention: each patch goes through that layer's value and output projections alone, and
so stays where the pooled vector would be if attention had picked this one patch.

- ViT: the last block without query-key attention (value projection, residual, MLP), then ln_post and proj.
- ResNet: v_proj and c_proj of the attention pool, without its positional embedding.

That is what the authors of GL-MCM compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn
from torch.nn import functional

from immuno_core.arrays import blocks
from immuno_core.errors import SetupError

PatchTower = Callable[[torch.Tensor], torch.Tensor]
"""Preprocessed images (b, 3, h, w) -> patch embeddings (b, P, d), float32, unit rows."""


def patch_tower(visual: nn.Module, *, label: str) -> PatchTower:
    """Return what gives the patch embeddings of an image tower; `label` is the encoder's name in errors.

    Raises SetupError for a tower that is neither a CLIP ViT nor a CLIP ResNet.
    """
    if isinstance(visual, ModifiedResNet):
        return _patches_at(visual, visual.attnpool, _of_resnet)
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None:
        last = visual.transformer.resblocks[-1]
        if type(last) is ResidualAttentionBlock:
            return _patches_at(visual, last, _of_vit)
    raise SetupError(
        f"the encoder '{label}' has no patch embeddings in the space of its texts: gl_mcm needs a CLIP ViT or ResNet "
        "(such as ViT-B-16 or RN50); leave gl_mcm out, or use such an encoder"
    )


def best_match(patches: torch.Tensor, texts: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return max over patches i and classes k of softmax_k(c(x_i, t_k) / T), (b,) float64.

    `patches` (b, P, d) and `texts` (K, d) are float32 unit rows. Images are taken in blocks: b x P x K may be large.
    """
    best = torch.empty(len(patches), dtype=torch.float64, device=patches.device)
    for rows in blocks(len(patches), 4 * patches.shape[1] * len(texts)):
        cosines = patches[rows] @ texts.T
        top = cosines.amax(dim=-1, keepdim=True)
        inverse = ((cosines - top) / temperature).exp().sum(dim=-1, dtype=torch.float64)
        best[rows] = (1 / inverse).amax(dim=-1)
    return best


def _patches_at(
    visual: nn.Module, layer: nn.Module, project: Callable[[Any, torch.Tensor], torch.Tensor]
) -> PatchTower:
    """Run the tower, catch what enters the layer, and project that."""

    def embed(images: torch.Tensor) -> torch.Tensor:
        caught: list[torch.Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            visual(images)
        finally:
            hook.remove()
        raw = project(visual, caught[0]).float()
        lengths: torch.Tensor = torch.linalg.vector_norm(raw, dim=-1, keepdim=True)
        return raw / lengths

    return embed


def _of_vit(visual: Any, tokens: torch.Tensor) -> torch.Tensor:
    """(b, P, d) from the tokens (b, 1 + P, width) that enter the last block."""
    block = visual.transformer.resblocks[-1]
    width = tokens.shape[-1]
    weight, bias = block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias[2 * width :]
    values = block.attn.out_proj(functional.linear(block.ln_1(tokens), weight, bias))
    x = tokens + block.ls_1(values)
    x = x + block.ls_2(block.mlp(block.ln_2(x)))
    return visual.ln_post(x[:, 1:]) @ visual.proj  # type: ignore[no-any-return]


def _of_resnet(visual: Any, grid: torch.Tensor) -> torch.Tensor:
    """(b, P, d) from the feature map (b, width, rows, columns) that enters the attention pool."""
    pool = visual.attnpool
    return pool.c_proj(pool.v_proj(grid.flatten(2).transpose(1, 2)))  # type: ignore[no-any-return]

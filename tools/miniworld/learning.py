"""How the model of the mini-world learns: the losses and the schedule that worked.

Three losses are added. The contrastive loss of CLIP between images and captions; a classification loss of images
against prompts that name the category alone, without which 2,300 steps are too few for the shapes; and, fading out, a
classification of category, context, colour and texture by four linear heads, which are thrown away afterwards.

Everything depends on the step and never on the clock, so the same seed gives the same weights on the same machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip import CLIP
from open_clip.loss import ClipLoss
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn import functional

from evaluation.miniworld.model import EMBEDDING_SIZE, MEAN, STANDARD_DEVIATION, model_config
from evaluation.miniworld.vocabulary import CATEGORIES, COLOURS, CONTEXTS, TEXTURES, caption, object_prompt
from tools.miniworld.training_set import TrainingSet

THREADS: Final = 2
"""Threads of torch. Fixed, since sums over more threads round differently."""


@dataclass(frozen=True)
class Settings:
    """The settings of a training run; the defaults made the shipped checkpoint."""

    steps: int = 2300
    batch_size: int = 128
    learning_rate: float = 1.5e-3
    warm_up_steps: int = 100
    final_rate: float = 0.02
    """The learning rate at the end, as a share of the highest."""
    weight_decay: float = 0.1
    label_smoothing: float = 0.05
    largest_shift: int = 4
    """Images are shifted by up to so many pixels; what leaves at one side enters at the other."""
    attribute_fade_out: float = 1 / 1.2
    """The share of the run after which the four heads no longer count."""
    largest_gradient: float = 1.0
    report_every: int = 100


class _Attribute(NamedTuple):
    name: str
    values: tuple[str, ...]
    weight: float


_ATTRIBUTES: Final = (
    _Attribute("category", CATEGORIES, 1.0),
    _Attribute("context", tuple(CONTEXTS), 0.3),
    _Attribute("colour", tuple(COLOURS), 0.3),
    _Attribute("texture", TEXTURES, 0.3),
)


def image_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Images, (n, 64, 64, 3) of 0 to 255, as the model wants them: standardised, (n, 3, 64, 64)."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STANDARD_DEVIATION))
    channels_first = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255)
    return ((channels_first - mean) / deviation).contiguous(memory_format=torch.channels_last)


def train(
    data: TrainingSet, tokenizer: SimpleTokenizer, seed: int, settings: Settings, report: Callable[[int, float], None]
) -> CLIP:
    """Trains a new model; `report` is called with the steps taken and the loss of the last one."""
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    model = CLIP(**model_config(tokenizer.vocab_size)).to(memory_format=torch.channels_last)
    heads = nn.ModuleDict({name: nn.Linear(EMBEDDING_SIZE, len(values)) for name, values, _ in _ATTRIBUTES})
    optimizer = _optimizer(model, heads, settings)
    labels = _labels(data)
    rng = np.random.default_rng(seed)
    model.train()
    batches = _batches(len(data.scenes), settings.batch_size, rng)
    for step, chosen in enumerate(islice(batches, settings.steps)):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, settings)
        images = _shifted_and_mirrored(image_tensor(data.images[chosen]), rng, settings)
        texts = [caption(data.scenes[index], rng) for index in chosen]
        prompts = [object_prompt(category, rng) for category in CATEGORIES]

        chosen_labels = {name: values[chosen] for name, values in labels.items()}
        fade = max(0.0, 1 - step / settings.steps / settings.attribute_fade_out)
        tokens = tokenizer([*texts, *prompts])
        loss = _loss(model, heads, images, tokens, chosen_labels, settings.label_smoothing, fade)

        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), settings.largest_gradient)
        optimizer.step()
        with torch.no_grad():
            # CLIP's own limits: a softmax between 1 and 100 times the cosines.
            model.logit_scale.clamp_(0, math.log(100))

        if (step + 1) % settings.report_every == 0:
            report(step + 1, loss.item())
    return model.eval()


def _loss(
    model: CLIP,
    heads: nn.ModuleDict,
    images: Tensor,
    tokens: Tensor,
    labels: dict[str, Tensor],
    label_smoothing: float,
    fade: float,
) -> Tensor:
    """The three losses of a batch of n images, (n, 3, 64, 64), added up; those of the attributes `fade` times.

    `tokens` are those of the images' n captions followed by those of one prompt for each category; `labels` are the
    images' attributes, (n,) each.
    """
    image_output = model.encode_image(images)
    image_embedding = functional.normalize(image_output, dim=-1)
    # One pass through the text transformer for both kinds of text.
    captions, prompts = model.encode_text(tokens, normalize=True).split([len(images), len(CATEGORIES)])
    scale = model.logit_scale.exp()
    prompt_loss = functional.cross_entropy(
        scale * image_embedding @ prompts.T, labels["category"], label_smoothing=label_smoothing
    )
    # Heads read the embedding before it is normalised; that was the form that worked.
    attribute_losses = [
        weight * functional.cross_entropy(heads[name](image_output), labels[name]) for name, _, weight in _ATTRIBUTES
    ]
    caption_loss = ClipLoss()(image_embedding, captions, scale)
    loss: Tensor = caption_loss + prompt_loss + fade * torch.stack(attribute_losses).sum()
    return loss


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield batches (size,), each ascending, of the images in random order, again and again.

    What is left over at the end of a round is skipped.
    """
    size = min(size, count)
    while True:
        order = rng.permutation(count)
        for start in range(0, count - size + 1, size):
            yield np.sort(order[start : start + size])


def _optimizer(model: CLIP, heads: nn.ModuleDict, settings: Settings) -> torch.optim.Optimizer:
    # Gains and biases are not decayed, as in CLIP.
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    free = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": free, "weight_decay": 0.0},
        {"params": list(heads.parameters()), "weight_decay": 0.01},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))


def _learning_rate(step: int, settings: Settings) -> float:
    """Rises in a line, then falls along half a cosine."""
    warm_up = min(1.0, (step + 1) / settings.warm_up_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return settings.learning_rate * warm_up * (settings.final_rate + (1 - settings.final_rate) * cosine)


def _labels(data: TrainingSet) -> dict[str, Tensor]:
    """For each attribute the number of its value in every image, (n,)."""
    return {
        name: torch.tensor([values.index(getattr(scene, name)) for scene in data.scenes])
        for name, values, _ in _ATTRIBUTES
    }


def _shifted_and_mirrored(images: Tensor, rng: np.random.Generator, settings: Settings) -> Tensor:
    """The whole batch shifted alike and, every other time, mirrored."""
    if rng.random() < 0.5:
        images = images.flip(3)
    right, down = rng.integers(-settings.largest_shift, settings.largest_shift + 1, 2)
    shifted = torch.roll(images, (int(down), int(right)), (2, 3))
    return shifted.contiguous(memory_format=torch.channels_last)

"""An encoder gives unit rows, says what fixes them, and names what is wrong with a model in one line."""

from __future__ import annotations

import logging
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cluster.encoder.encoder import Encoder, load_encoder
from cluster.encoder.loading import beyond_context
from cluster.encoder.spec import EncoderSpec, fingerprint
from immuno_core.errors import SetupError
from tests.cluster.tiny_models import write_images


def spec_of(folder: Path, **changes: Any) -> EncoderSpec:
    return replace(EncoderSpec(f"local-dir:{folder}"), **changes)


@pytest.fixture(scope="module")
def encoder(tiny_encoder_dir: Path) -> Encoder:
    return load_encoder(spec_of(tiny_encoder_dir), batch_size=4)


@pytest.fixture
def model_copy(tiny_encoder_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_encoder_dir, tmp_path / "model"))


def refusal(spec: EncoderSpec) -> str:
    """What a SetupError says of a spec: always one line."""
    with pytest.raises(SetupError) as caught:
        load_encoder(spec)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- embeddings


def test_texts_beyond_the_context_are_told(encoder: Encoder) -> None:
    """The tiny model reads 40 tokens, begin and end among them: 38 letters that stand alone."""
    texts = ["a", "q " * 38, "q " * 39, "", "q " * 200]
    assert encoder.cut_texts(texts) == [2, 4]
    assert encoder.cut_texts([]) == encoder.cut_texts(["q " * 38]) == []
    kept, *cut = encoder.embed_texts(texts[1:3] + texts[4:])
    np.testing.assert_allclose(cut[0], cut[1], atol=1e-6)  # such texts are one to the model
    np.testing.assert_allclose(kept, cut[0], atol=1e-6)


def padded(tokens: list[int], context: int, *, end: int, pad: int, after: list[int], left: bool) -> list[int]:
    room = context - len(after) - 2
    whole = [98, *tokens[:room], end]
    filling = [pad] * (context - len(after) - len(whole))
    return [*filling, *whole, *after] if left else [*whole, *filling, *after]


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("after", [[], [97]])
@pytest.mark.parametrize("pad", [0, 1, 99])
def test_cut_texts_are_told_whatever_they_are_padded_with(pad: int, after: list[int], left: bool) -> None:
    """Padding may be the end token, on either side, and before a last token of its own."""

    def tokenizer(texts: list[str], context_length: int = 10) -> torch.Tensor:
        tokens = [[int(word) for word in text.split()] for text in texts]
        rows = [padded(one, context_length, end=99, pad=pad, after=after, left=left) for one in tokens]
        return torch.tensor(rows)

    room = 10 - 2 - len(after)
    texts = [" ".join(["7"] * count) for count in range(room + 3)]
    assert beyond_context(tokenizer, texts) == [room + 1, room + 2]


def test_images_and_texts_become_unit_rows_of_one_space(encoder: Encoder, tmp_path: Path) -> None:
    folder = write_images(tmp_path, {"cat": 6})
    images, failures, *_ = encoder.embed_image_files(sorted(map(str, folder.glob("cat/*.png"))))
    texts = encoder.embed_texts(["a cat", "a dog", "a cat with a very long story that has no end in sight"])
    assert failures == {}
    assert images.shape == (6, 16)
    assert texts.shape == (3, 16)
    for rows in (images, texts):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=1e-6)


def test_nothing_asked_for_gives_no_rows(encoder: Encoder) -> None:
    assert encoder.embed_texts([]).shape == (0, 16)
    assert encoder.embed_image_files([]).features.shape == (0, 16)


def test_rows_are_those_that_open_clip_gives_by_itself(
    encoder: Encoder, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 70, 4), dtype=np.uint8), "RGBA").save(path)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_encoder_dir}")
    tokenizer = open_clip.get_tokenizer(
        f"local-dir:{tiny_encoder_dir}", bpe_path=str(tiny_encoder_dir / "bpe_simple_vocab.txt.gz")
    )
    with torch.inference_mode():
        image = model.eval().encode_image(preprocess(Image.open(path))[None], normalize=True).numpy()
        text = model.encode_text(tokenizer(["a cat"]), normalize=True).numpy()
    np.testing.assert_allclose(encoder.embed_image_files([str(path)]).features, image, atol=1e-6)
    np.testing.assert_allclose(encoder.embed_texts(["a cat"]), text, atol=1e-6)
    assert encoder.info.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))


def test_batches_change_nothing_but_rounding(encoder: Encoder, tiny_encoder_dir: Path, tmp_path: Path) -> None:
    paths = sorted(map(str, write_images(tmp_path, {"cat": 9}).glob("cat/*.png")))
    at_once = load_encoder(spec_of(tiny_encoder_dir), batch_size=100)
    np.testing.assert_allclose(
        encoder.embed_image_files(paths).features, at_once.embed_image_files(paths).features, atol=1e-6
    )


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_still_ends_on_the_sphere(
    encoder: Encoder, tiny_encoder_dir: Path, tmp_path: Path, precision: str
) -> None:
    half = load_encoder(spec_of(tiny_encoder_dir, precision=precision))
    paths = sorted(map(str, write_images(tmp_path, {"cat": 3}).glob("cat/*.png")))
    rows = half.embed_image_files(paths).features
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows, encoder.embed_image_files(paths).features, atol=0.05)
    assert half.info.digest != encoder.info.digest


def test_a_batch_too_large_for_memory_is_halved_and_that_is_remembered(
    encoder: Encoder, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    paths = sorted(map(str, write_images(tmp_path, {"cat": 11}).glob("cat/*.png")))
    small = load_encoder(spec_of(tiny_encoder_dir), batch_size=8)
    embed = small._encode_image

    def within_memory(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return embed(images)

    small._encode_image = within_memory
    embedded, stats = small.measure_image_files(paths)
    np.testing.assert_allclose(embedded.features, encoder.embed_image_files(paths).features, atol=1e-6)
    assert (embedded.failures, stats.halvings, small.batch_size) == ({}, 2, 2)
    assert small.measure_image_files(paths).stats.halvings == 0


def test_an_image_over_which_the_model_raises_is_left_out_alone(
    encoder: Encoder, tiny_encoder_dir: Path, tmp_path: Path
) -> None:
    folder = write_images(tmp_path, {"cat": 12})
    paths = sorted(map(str, folder.glob("cat/*.png")))
    Path(paths[2]).write_text("no image")
    Image.new("RGB", (24, 20), "white").save(paths[7])
    choosy = load_encoder(spec_of(tiny_encoder_dir), batch_size=5)
    embed = choosy._encode_image

    def no_white(images: torch.Tensor) -> torch.Tensor:
        if (images.amin(dim=(1, 2, 3)) > 1).any():
            raise ValueError("too bright\nfor this model")
        return embed(images)

    choosy._encode_image = no_white
    features, failures, *_ = choosy.embed_image_files(paths)
    assert [(row, failure.reason) for row, failure in failures.items()] == [
        (2, "not an image"),
        (7, "the model fails on it: ValueError: too bright"),
    ]
    good = [path for row, path in enumerate(paths) if row not in (2, 7)]
    np.testing.assert_allclose(features, encoder.embed_image_files(good).features, atol=1e-6)


def test_the_batch_size_is_found_on_a_gpu_and_fixed_without(tiny_encoder_dir: Path) -> None:
    assert load_encoder(spec_of(tiny_encoder_dir, device="cpu")).batch_size == 64
    assert load_encoder(spec_of(tiny_encoder_dir, device="cpu"), batch_size=7).batch_size == 7


def test_a_compiled_tower_gives_the_same_rows_from_one_compilation(
    encoder: Encoder, tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def compile_eagerly(function: Any, **options: Any) -> Any:
        """torch's tracer without its C++ compiler, which not every machine has and which takes half a minute."""

        def backend(graph: Any, _: Any) -> Any:
            compiled.append(graph)
            return graph

        return really(function, backend=backend, **options)

    really = torch.compile
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    paths = sorted(map(str, write_images(tmp_path, {"cat": 9}).glob("cat/*.png")))
    quick = load_encoder(spec_of(tiny_encoder_dir, compile=True), batch_size=4)
    for count in (9, 3, 1):
        np.testing.assert_allclose(
            quick.embed_image_files(paths[:count]).features,
            encoder.embed_image_files(paths[:count]).features,
            atol=1e-6,
        )
    assert len(compiled) == 1
    assert quick.info.digest == encoder.info.digest


def test_untrusted_texts_are_embedded_like_any_other(encoder: Encoder) -> None:
    odd = ["", " ", "\x00", "\ud83d half a character", "<end_of_text>", "&amp;", "\u202egnp.tac", "x" * 5000]
    assert np.isfinite(encoder.embed_texts(odd)).all()


def test_weights_that_overflow_are_named_not_measured(model_copy: Path, tmp_path: Path) -> None:
    weights = load_file(model_copy / "open_clip_model.safetensors")
    weights["visual.proj"] *= 1e38
    weights["text_projection"] *= 1e38
    save_file(weights, model_copy / "open_clip_model.safetensors")
    broken = load_encoder(spec_of(model_copy))
    paths = [str(path) for path in write_images(tmp_path / "images", {"cat": 2}).glob("cat/*")]
    features, failures, *_ = broken.embed_image_files(paths)
    assert len(features) == 0
    assert [failure.reason for failure in failures.values()] == ["its embedding is not finite at precision fp32"] * 2
    with pytest.raises(SetupError, match="'a cat' is not finite"):
        broken.embed_texts(["a cat"])


def test_the_mini_world_s_model_is_at_hand() -> None:
    encoder = load_encoder(EncoderSpec("miniworld"))
    assert (encoder.info.model, encoder.info.dim, encoder.info.image_size) == ("miniworld", 128, 64)
    assert encoder.embed_texts(["a photo of a dog."]).shape == (1, 128)


# --- what fixes an embedding


def test_the_same_files_give_the_same_digest_wherever_they_lie(encoder: Encoder, model_copy: Path) -> None:
    copied = load_encoder(spec_of(model_copy)).info
    assert (copied.digest, copied.dim, copied.image_size) == (encoder.info.digest, 16, 32)
    assert fingerprint(spec_of(model_copy)) != fingerprint(EncoderSpec(encoder.info.model))


def test_a_file_that_changes_changes_the_fingerprint(model_copy: Path) -> None:
    before = fingerprint(spec_of(model_copy))
    assert fingerprint(spec_of(model_copy)) == before
    weights = model_copy / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes())
    assert fingerprint(spec_of(model_copy)) != before
    assert fingerprint(spec_of(model_copy, precision="fp16")) != fingerprint(spec_of(model_copy))


def test_a_copy_of_the_mini_world_s_model_is_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evaluation.miniworld import model

    here = fingerprint(EncoderSpec("miniworld"))
    copy = shutil.copytree(model.CHECKPOINT, tmp_path / "checkpoint", copy_function=shutil.copy)
    monkeypatch.setattr(model, "CHECKPOINT", copy)
    assert fingerprint(EncoderSpec("miniworld")) == here
    (copy / "open_clip_config.json").write_text("{}")
    with pytest.raises(SetupError, match="lacks 'embed_dim'"):
        fingerprint(EncoderSpec("miniworld"))


def test_tags_trained_with_quick_gelu_get_it() -> None:
    from cluster.encoder.loading import needs_quick_gelu

    assert needs_quick_gelu(EncoderSpec("ViT-B-16", "openai"))
    assert not needs_quick_gelu(EncoderSpec("ViT-B-16", "laion2b_s34b_b88k"))


# --- what can be wrong


def test_an_unknown_model_is_named_with_the_nearest_ones() -> None:
    message = refusal(EncoderSpec("vit-b-33", "openai"))
    assert message.startswith("unknown encoder model 'vit-b-33'")
    assert "'ViT-B-32'" in message


def test_an_unknown_tag_is_named_with_the_nearest_ones() -> None:
    assert "did you mean 'openai'?" in refusal(EncoderSpec("ViT-B-32", "openia"))


def test_a_named_model_without_weights_is_refused() -> None:
    assert "random ones are never used" in refusal(EncoderSpec("ViT-B-32"))


def test_a_model_with_weights_of_its_own_takes_no_tag(tiny_encoder_dir: Path) -> None:
    assert "leave out pretrained = 'openai'" in refusal(spec_of(tiny_encoder_dir, pretrained="openai"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f"no folder at {tmp_path / 'gone'}" in refusal(spec_of(tmp_path / "gone"))


def test_a_folder_without_configuration_or_weights_is_named(model_copy: Path) -> None:
    (model_copy / "open_clip_model.safetensors").unlink()
    assert f"{model_copy} has no weights" in refusal(spec_of(model_copy))
    (model_copy / "open_clip_config.json").unlink()
    assert "has no open_clip_config.json" in refusal(spec_of(model_copy))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not valid JSON"),
        ("[]", "'model_cfg' lacks 'embed_dim'"),
        ('{"model_cfg": {"embed_dim": 16}}', "'model_cfg' lacks 'vision_cfg'"),
        ('{"model_cfg": {"embed_dim": 16, "vision_cfg": {"depth": 3}, "text_cfg": {}}}', "depth"),
    ],
)
def test_a_broken_configuration_is_named(model_copy: Path, content: str, complaint: str) -> None:
    (model_copy / "open_clip_config.json").write_text(content)
    assert complaint in refusal(spec_of(model_copy))


def test_weights_of_another_model_are_refused_by_their_first_misfits(model_copy: Path) -> None:
    path = model_copy / "open_clip_model.safetensors"
    weights = load_file(path)
    weights["visual.extra"] = weights.pop("visual.ln_pre.weight")
    weights["ln_final.bias"] = torch.zeros(7)
    save_file(weights, path)
    message = refusal(spec_of(model_copy))
    assert f"the weights in {model_copy} do not fit its open_clip_config.json" in message
    assert "'visual.ln_pre.weight' is missing" in message
    assert "'visual.extra' is unknown to the model" in message
    assert "'ln_final.bias' has shape [7] but the model's is [32]" in message


def test_a_weight_file_of_another_architecture_is_refused(tiny_encoder_dir: Path) -> None:
    weights = tiny_encoder_dir / "open_clip_model.safetensors"
    message = refusal(EncoderSpec("RN50", str(weights)))
    assert f"the weights '{weights}' do not fit the model 'RN50': " in message


def test_a_truncated_weight_file_is_refused(model_copy: Path) -> None:
    path = model_copy / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "are its files whole?" in refusal(spec_of(model_copy))


def test_a_tokenizer_larger_than_the_model_is_refused(model_copy: Path) -> None:
    (model_copy / "bpe_simple_vocab.txt.gz").unlink()
    assert "has 49408 tokens but its model knows 714" in refusal(spec_of(model_copy))


def test_a_hub_that_cannot_be_reached_is_said_in_one_line() -> None:
    message = refusal(EncoderSpec("hf-hub:nobody/nothing"))
    assert message.startswith("could not get the encoder 'hf-hub:nobody/nothing' from the Hugging Face hub")
    assert "local-dir:/path" in refusal(EncoderSpec("ViT-B-32", "openai"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused(tiny_encoder_dir: Path) -> None:
    assert "torch sees none here" in refusal(spec_of(tiny_encoder_dir, device="cuda"))
    assert "device 'gpu' is not known" in refusal(spec_of(tiny_encoder_dir, device="gpu"))


def test_loading_says_nothing_and_leaves_logging_alone(
    tiny_encoder_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (list(logging.getLogger().handlers), logging.root.manager.disable)
    load_encoder(spec_of(tiny_encoder_dir))
    assert (list(logging.getLogger().handlers), logging.root.manager.disable) == before
    assert capfd.readouterr() == ("", "")


def test_models_loaded_at_once_leave_logging_alone_too(tiny_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create, inside, most = open_clip.create_model, [0], [0]

    def slowly(*arguments: Any, **options: Any) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.1)
        inside[0] -= 1
        return create(*arguments, **options)

    monkeypatch.setattr(open_clip, "create_model", slowly)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: load_encoder(spec_of(tiny_encoder_dir)), range(2)))
    assert (logging.root.manager.disable, most[0]) == (logging.NOTSET, 1)

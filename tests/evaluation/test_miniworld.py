"""The mini-world: what it promises about its folders, and that the shipped checkpoint is the one it says it is."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.miniworld import CHECKPOINT, KNOWN_CLASSES, SETS, Sizes, build, default_root, world
from evaluation.miniworld.drawing.scene import GENERATOR_VERSION, render
from evaluation.miniworld.vocabulary import (
    CATEGORIES,
    CONTEXTS,
    FILLERS,
    LOOK_ALIKES,
    PLAUSIBLE_CONTEXTS,
    UNSEEN_CONTEXTS,
    caption,
    sample_scene,
    vocabulary_words,
)
from evaluation.miniworld.world import MANIFEST_FILE, UNFINISHED_FILE, Domain, MiniWorld, draw_image, image_generator
from immuno_core.errors import SetupError

SMALL = Sizes(
    fit_per_class=1,
    feedback_id=16,
    feedback_near=16,
    feedback_contextual=16,
    feedback_far=6,
    test_id=16,
    test_near=16,
    test_contextual=16,
    test_far=6,
    test_near_unseen=16,
    test_contextual_unseen=16,
)
ALL_SETS = [(split, name) for split, names in SETS.items() for name in names]
Shown = dict[tuple[str, str], set[tuple[str, str]]]
"""Per split and set, every (category, context) shown; the category is empty for an empty scene."""

FIRST_LOOK_ALIKES = {pair[0] for pair in LOOK_ALIKES.values()}
SECOND_LOOK_ALIKES = {pair[1] for pair in LOOK_ALIKES.values()}


def contents(root: Path) -> dict[str, bytes]:
    """Every file under a folder by its relative path."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def labels(built: MiniWorld, split: str, set_name: str) -> set[str]:
    return {folder.name for folder in built.folder(split, set_name).iterdir()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> MiniWorld:
    return build(tmp_path_factory.mktemp("worlds") / "small", sizes=SMALL)


class TestLayout:
    def test_every_set_has_its_size_and_every_file_is_a_64_by_64_png(self, small: MiniWorld) -> None:
        for split, name in ALL_SETS:
            files = sorted(small.folder(split, name).glob("*/*.png"), key=lambda path: path.name)
            assert [path.name for path in files] == [f"{i:05d}.png" for i in range(SMALL.count(split, name))]
            with Image.open(files[0]) as image:
                assert (image.format, image.size, image.mode) == ("PNG", (64, 64), "RGB")

    def test_nothing_else_is_in_the_folder(self, small: MiniWorld) -> None:
        files = contents(small.root)
        assert len(files) == SMALL.total() + 1
        assert {path for path in files if not path.endswith(".png")} == {MANIFEST_FILE}

    def test_labels_say_what_is_shown(self, small: MiniWorld) -> None:
        for split in SETS:
            assert labels(small, split, "id") == set(KNOWN_CLASSES) == set(small.classes)
        for split in ("feedback", "test"):
            assert labels(small, split, "near") == FIRST_LOOK_ALIKES
            assert labels(small, split, "far") <= {*FILLERS, "empty_scene", "texture", "noise"}
        assert labels(small, "test", "near_unseen") == SECOND_LOOK_ALIKES
        for label in labels(small, "test", "contextual"):
            known_class, context = label.split("_in_")
            assert context not in PLAUSIBLE_CONTEXTS[known_class]

    def test_manifest_describes_the_world(self, small: MiniWorld) -> None:
        manifest = json.loads((small.root / MANIFEST_FILE).read_text())
        assert manifest["seed"] == 0
        assert manifest["count"] == SMALL.total()
        assert manifest["classes"] == list(KNOWN_CLASSES)
        assert Sizes(**manifest["sizes"]) == SMALL

    def test_default_sizes(self) -> None:
        sizes = Sizes()
        assert sizes.count("fit", "id") == 1600
        assert sum(sizes.count("feedback", name) for name in SETS["feedback"]) == 1680
        assert sum(sizes.count("test", name) for name in SETS["test"]) == 3840

    def test_unknown_names_are_refused_with_a_hint(self, small: MiniWorld) -> None:
        with pytest.raises(SetupError, match="feedback"):
            small.set_names("feedbak")
        with pytest.raises(SetupError, match="no set 'near_unseen'"):
            small.folder("feedback", "near_unseen")

    def test_empty_sets_are_refused(self) -> None:
        with pytest.raises(ValueError, match="test_far"):
            Sizes(test_far=0)


@pytest.fixture(scope="module")
def shown() -> Shown:
    """What each set asks to be drawn, from many more images than a small world has."""
    return {place: _asked_for(*place) for place in ALL_SETS}


class TestWhatIsShownWhere:
    def test_unseen_contexts_are_in_one_sealed_set_only(self, shown: Shown) -> None:
        for place, pairs in shown.items():
            contexts = {context for _, context in pairs}
            if place == ("test", "contextual_unseen"):
                assert contexts == set(UNSEEN_CONTEXTS)
            else:
                assert not contexts & set(UNSEEN_CONTEXTS)

    def test_second_look_alikes_are_in_one_sealed_set_only(self, shown: Shown) -> None:
        for place, pairs in shown.items():
            categories = {category for category, _ in pairs}
            if place == ("test", "near_unseen"):
                assert categories == SECOND_LOOK_ALIKES
            else:
                assert not categories & SECOND_LOOK_ALIKES

    def test_only_the_shape_tells_a_look_alike(self, shown: Shown) -> None:
        possible = {
            (look_alike, context)
            for known_class, pair in LOOK_ALIKES.items()
            for look_alike in pair
            for context in PLAUSIBLE_CONTEXTS[known_class]
        }
        assert shown["feedback", "near"] | shown["test", "near"] | shown["test", "near_unseen"] == possible

    def test_known_classes_are_where_they_belong_unless_they_are_anomalies(self, shown: Shown) -> None:
        for (_, name), pairs in shown.items():
            plausible = {
                context in PLAUSIBLE_CONTEXTS[category] for category, context in pairs if category in KNOWN_CLASSES
            }
            assert plausible == {"id": {True}, "contextual": {False}, "contextual_unseen": {False}}.get(name, set())

    def test_unseen_contexts_are_plausible_for_no_class(self) -> None:
        assert not {context for contexts in PLAUSIBLE_CONTEXTS.values() for context in contexts} & set(UNSEEN_CONTEXTS)


class TestSeeds:
    def test_the_same_seed_gives_the_same_bytes_in_any_number_of_processes(
        self, small: MiniWorld, tmp_path: Path
    ) -> None:
        again = build(tmp_path / "again", sizes=SMALL, workers=2)
        assert contents(again.root) == contents(small.root)

    def test_another_seed_gives_other_images(self) -> None:
        one, other = draw_image(0, "test", "id", 3), draw_image(1, "test", "id", 3)
        assert one.label == other.label
        assert one.image.tobytes() != other.image.tobytes()

    def test_no_two_images_of_a_world_are_the_same(self, small: MiniWorld) -> None:
        images = [content for path, content in contents(small.root).items() if path.endswith(".png")]
        assert len({hashlib.sha256(content).digest() for content in images}) == SMALL.total()

    def test_training_never_meets_a_world(self) -> None:
        training = image_generator(Domain.TRAINING, 7, 0, 0, 5)
        in_world = image_generator(Domain.WORLD, 7, 0, 0, 5)
        assert training.random() != in_world.random()

    @pytest.mark.parametrize("seed", [-1, 2**32])
    def test_seeds_that_could_collide_are_refused(self, seed: int) -> None:
        with pytest.raises(ValueError, match="must lie in 0"):
            image_generator(Domain.WORLD, seed, 0, 0, 0)


class TestBuilding:
    def test_a_second_build_draws_nothing(self, small: MiniWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(world, "draw_image", None)
        calls: list[tuple[int, int]] = []
        assert build(small.root, sizes=SMALL, progress=lambda *call: calls.append(call)) == small
        assert calls == [(SMALL.total(), SMALL.total())]

    def test_a_deleted_file_is_drawn_again(self, tmp_path: Path) -> None:
        built = build(tmp_path, seed=4, sizes=SMALL)
        before = contents(tmp_path)
        next(built.folder("test", "far").glob("*/00003.png")).unlink()
        kept = next(built.folder("test", "far").glob("*/00002.png"))
        changed = kept.stat().st_mtime_ns
        build(tmp_path, seed=4, sizes=SMALL)
        assert contents(tmp_path) == before
        assert kept.stat().st_mtime_ns == changed

    def test_an_interrupted_build_goes_on(self, small: MiniWorld, tmp_path: Path) -> None:
        def interrupt(done: int, _: int) -> None:
            if done > 30:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build(tmp_path, sizes=SMALL, workers=1, progress=interrupt)
        assert (tmp_path / UNFINISHED_FILE).exists()
        assert not (tmp_path / MANIFEST_FILE).exists()
        calls: list[int] = []
        build(tmp_path, sizes=SMALL, progress=lambda done, _: calls.append(done))
        assert calls[0] > 30
        assert contents(tmp_path) == contents(small.root)

    @pytest.mark.long
    def test_ctrl_c_ends_the_worker_processes(self, tmp_path: Path) -> None:
        command = (
            "import sys; from pathlib import Path; from evaluation.miniworld import build;"
            "build(Path(sys.argv[1]), workers=2, progress=lambda done, total: print(done, flush=True))"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", command, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a process group of its own, as a shell gives a command
        )
        assert process.stdout is not None
        while int(process.stdout.readline()) < 64:
            pass
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode != 0
        assert errors.count("Traceback") == 1, errors  # the caller's own; the workers are silent
        assert "KeyboardInterrupt" in errors
        _wait_until(lambda: not _group_exists(process.pid))
        assert (tmp_path / UNFINISHED_FILE).exists()
        assert not list(tmp_path.rglob("*.tmp"))

    def test_a_folder_with_another_world_is_refused(self, small: MiniWorld, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="seed 0 and not 1"):
            build(small.root, seed=1, sizes=SMALL)
        with pytest.raises(SetupError, match="other sizes and count"):
            build(small.root)
        (tmp_path / UNFINISHED_FILE).write_text("{")
        with pytest.raises(SetupError, match="unreadable"):
            build(tmp_path, sizes=SMALL)

    def test_a_folder_with_other_files_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").touch()
        with pytest.raises(SetupError, match="other files"):
            build(tmp_path, sizes=SMALL)
        with pytest.raises(SetupError, match="is a file"):
            build(tmp_path / "thesis.tex", sizes=SMALL)

    def test_default_root_is_in_the_cache_and_differs_between_worlds(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("IMMUNO_CACHE", str(tmp_path))
        roots = {default_root(), default_root(1), default_root(0, SMALL)}
        assert len(roots) == 3
        assert {root.parent for root in roots} == {tmp_path / "miniworld"}


def test_drawing_a_world_needs_no_torch() -> None:
    command = "import sys, evaluation.miniworld; sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)


class TestVocabulary:
    def test_every_category_can_be_drawn_in_every_context(self) -> None:
        rng = np.random.default_rng(0)
        for number, category in enumerate(CATEGORIES):
            context = list(CONTEXTS)[number % len(CONTEXTS)]
            assert render(category, context, rng).size == (64, 64)

    def test_captions_use_only_the_words_of_the_vocabulary(self) -> None:
        rng = np.random.default_rng(0)
        words = set(vocabulary_words())
        for number in range(500):
            scene = sample_scene(CATEGORIES[number % len(CATEGORIES)], list(CONTEXTS)[number % len(CONTEXTS)], rng)
            assert set(caption(scene, rng).removesuffix(".").split()) <= words


class TestCheckpoint:
    def test_files_are_those_of_the_provenance(self) -> None:
        provenance = json.loads((CHECKPOINT / "PROVENANCE.json").read_text())
        found = {path.name: path for path in CHECKPOINT.iterdir() if path.name != "PROVENANCE.json"}
        assert set(provenance["sha256"]) == set(found)
        for name, digest in provenance["sha256"].items():
            assert hashlib.sha256(found[name].read_bytes()).hexdigest() == digest
        assert provenance["generator_version"] == GENERATOR_VERSION
        assert found["open_clip_model.safetensors"].stat().st_size <= 8_000_000

    def test_vocabulary_and_configuration_are_reproducible(self, tmp_path: Path) -> None:
        from evaluation.miniworld import model

        model.write_vocabulary(tmp_path / model.VOCABULARY_FILE)
        size = model.load_tokenizer(tmp_path / model.VOCABULARY_FILE).vocab_size
        model.write_config(tmp_path / model.CONFIG_FILE, size)
        for path in tmp_path.iterdir():
            assert path.read_bytes() == (CHECKPOINT / path.name).read_bytes()

    def test_it_names_known_classes_and_sees_look_alikes(self, tmp_path: Path) -> None:
        from evaluation.miniworld.model import load
        from tools.miniworld.measure import measure

        sizes = Sizes(**dict.fromkeys(vars(SMALL), 16) | {"fit_per_class": 1, "test_id": 96, "test_near": 96})
        figures = measure(load(), build(tmp_path, seed=99, sizes=sizes))
        assert figures["id_accuracy"] > 0.85
        assert figures["max_cosine"]["near"]["auroc"] > 0.8


def _asked_for(split: str, set_name: str) -> set[tuple[str, str]]:
    asked: set[tuple[str, str]] = set()
    blank = Image.new("RGB", (64, 64))

    def note(category: str, context: str, _: np.random.Generator) -> Image.Image:
        asked.add((category, context))
        return blank

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluation.miniworld.world.render", note)
        patch.setattr("evaluation.miniworld.world.empty_scene", lambda context, rng: note("", context, rng))
        for index in range(480):
            draw_image(0, split, set_name, index)
    return asked


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)

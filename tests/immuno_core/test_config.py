"""Configuration files: what is read, and how a mistake in one is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from immuno_core.config.run import RunConfig, parse_config, read_config
from immuno_core.errors import SetupError
from tests.configs import config_text, make_config

GOOD = config_text(
    classes={"names": "classes.txt"},
    data={"id": "images/id", "ood": {"near": "/elsewhere/near"}},
    methods=[{"name": "mcm", "temperature": 0.5}],
)


def read(tmp_path: Path, text: str) -> RunConfig:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = read(tmp_path, GOOD)
    assert config.data.id.path == tmp_path / "images" / "id"
    assert config.data.ood[0].path == Path("/elsewhere/near")
    assert config.classes.names == tmp_path / "classes.txt"


def test_the_store_is_a_folder_relative_to_the_file_or_a_url(tmp_path: Path) -> None:
    text = GOOD + "[cluster]\nstore = "
    assert read(tmp_path, text + '"cache/store"').cluster.store == tmp_path / "cache" / "store"
    assert read(tmp_path, text + '"s3://bucket/folder"').cluster.store == "s3://bucket/folder"
    stored = read(tmp_path, text + '"s3://bucket/folder"').model_dump(mode="json")
    assert parse_config(stored, origin="stored", folder=tmp_path).cluster.store == "s3://bucket/folder"
    with pytest.raises(SetupError, match=r"cluster\.store.*give the bare URL") as raised:
        read(tmp_path, text + '"s3://me:hidden@bucket/folder"')
    assert "hidden" not in str(raised.value)


def test_a_local_model_is_relative_to_the_file(tmp_path: Path) -> None:
    near = read(tmp_path, GOOD.replace('"miniworld"', '"local-dir:models/tiny"'))
    far = read(tmp_path, GOOD.replace('"miniworld"', '"local-dir:/models/tiny"'))
    assert near.encoder.model == f"local-dir:{tmp_path}/models/tiny"
    assert far.encoder.model == "local-dir:/models/tiny"


def test_a_weight_file_is_relative_to_the_file_and_a_tag_is_a_tag(tmp_path: Path) -> None:
    for written, meant in (
        ("../weights.pt", f"{tmp_path}/weights.pt"),
        ("weights.safetensors", f"{tmp_path}/configs/weights.safetensors"),
        ("models/weights", f"{tmp_path}/configs/models/weights"),
        ("/elsewhere/w.bin", "/elsewhere/w.bin"),
        ("laion2b_s34b_b88k", "laion2b_s34b_b88k"),
    ):
        config = make_config(tmp_path / "configs", encoder={"model": "ViT-B-16", "pretrained": written})
        assert config.encoder.pretrained == meant


def test_one_file_has_one_name_however_a_configuration_comes_to_it(tmp_path: Path) -> None:
    (tmp_path / "far" / "off").mkdir(parents=True)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "off")
    spelt = (
        (tmp_path, "data"),
        (tmp_path / "a", "../data"),
        (tmp_path / "a" / "b", "../../data"),
        (tmp_path / "a", f"{tmp_path}/a/../data"),
        (tmp_path / "a", "./b/../../data"),
    )
    for folder, path in spelt:
        config = make_config(folder, data={"id": path, "ood": {"near": {"path": "x.txt", "root": path}}})
        assert config.data.id.path == config.data.ood[0].root == tmp_path / "data"
    # As the system does it: from a link back is where the folder lies that it leads to.
    linked = make_config(tmp_path, data={"id": "link/../data", "ood": {"near": "link/data"}}).data
    assert (linked.id.path, linked.ood[0].path) == (tmp_path / "far" / "data", tmp_path / "link" / "data")


def test_patterns_roots_features_and_tables_are_relative_to_the_file(tmp_path: Path) -> None:
    text = GOOD.replace('path = "images/id"', 'path = "lists/id.txt"\nroot = "images"')
    text = text.replace('path = "/elsewhere/near"', 'path = "tars/{000..009}.tar"')
    text = text.replace('model = "miniworld"', 'kind = "precomputed"\ntexts = "texts.npz"\nlogit_scale = 50')
    config = read(tmp_path, text + '[[data.ood]]\nname = "far"\nfeatures = "far.npz"\nexpected = 10\n')
    assert (config.data.id.path, config.data.id.root) == (tmp_path / "lists/id.txt", tmp_path / "images")
    assert config.data.ood[0].path == tmp_path / "tars/{000..009}.tar"
    assert (config.data.ood[1].features, config.data.ood[1].expected) == (tmp_path / "far.npz", 10)
    assert (config.encoder.texts, config.encoder.logit_scale) == (tmp_path / "texts.npz", 50)
    assert config.data.overlap == "error"


def test_other_keys_of_a_method_are_its_parameters(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD).methods[0].params == {"temperature": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[encoder]", "[enoder]"), "unknown key 'enoder'; did you mean 'encoder'"),
        (('model = "miniworld"', 'modell = "miniworld"'), "unknown key 'encoder.modell'; did you mean 'model'"),
        (("[data.id]\n", "[data.id]\npth = 1\n"), "unknown key 'data.id.pth'; did you mean 'path'"),
        (('name = "near"\n', ""), r"every \[\[data.ood\]\] needs a name"),
        (('path = "images/id"', ""), "data.id: give exactly one of: path, features, builtin"),
        (('path = "images/id"', 'path = "x"\nfeatures = "x.npz"'), "data.id: give exactly one of"),
        (('path = "images/id"', 'features = "x.npz"\nroot = "x"'), "data.id: root goes with path"),
        (('path = "images/id"', 'path = "x"\nexpectd = 3'), "unknown key 'data.id.expectd'; did you mean 'expected'"),
        (
            ('path = "images/id"', 'path = "x"\nexpected = 0'),
            "data.id.expected = 0: Input should be greater than or equal",
        ),
        (("[data.id]", "[data]\noverlapp = 'drop'\n[data.id]"), "unknown key 'data.overlapp'; did you mean 'overlap'"),
        (("[data.id]", "[data]\noverlap = 'keep'\n[data.id]"), "data.overlap = 'keep'; known: drop, error"),
        (
            ('model = "miniworld"', 'model = "miniworld"\nbatch_size = 0'),
            'encoder.batch_size = 0: give a whole number from 1 to 1,048,576, or "auto"',
        ),
        (
            ('model = "miniworld"', 'model = "miniworld"\nbatch_size = "large"'),
            "encoder.batch_size = 'large': give a whole number",
        ),
        (('model = "miniworld"', ""), "encoder: the key 'model' is missing"),
        (('model = "miniworld"', 'kind = "precomputed"'), 'encoder: kind = "precomputed" needs texts'),
        (('model = "miniworld"', 'model = "x"\ntexts = "t.npz"'), "texts and logit_scale go with kind"),
        (
            ('model = "miniworld"', 'kind = "precomputed"\ntext = "t"'),
            "unknown key 'encoder.text'; did you mean 'texts'",
        ),
        (('[[methods]]\nname = "mcm"\ntemperature = 0.5', ""), "the key 'methods' is missing"),
        (("[encoder]", "seed = -1\n[encoder]"), "seed = -1: Input should be greater than or equal to 0"),
        (("[encoder]", "[encoder"), "not valid TOML"),
        (("[[methods]]", "[methods]"), r"methods: write \[\[methods\]\] with double brackets"),
        (('name = "mcm"', 'name = "mcm"\narm = "nois"'), "methods no. 1.arm = 'nois'; did you mean 'noise'"),
        (('name = "mcm"', 'preset = "score"'), "methods no. 1.preset = 'score'; did you mean 'scores'"),
        (('name = "mcm"', 'preset = "scores"\nbeta = 1'), "unknown key 'methods no. 1.beta'; known: preset"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        read(tmp_path, GOOD.replace(*change))


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"two \[\[data.ood\]\] have one name"):
        read(tmp_path, GOOD + '[[data.ood]]\nname = "near"\npath = "x"\n')


def test_a_missing_file_a_folder_and_another_encoding_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no configuration file"):
        read_config(tmp_path / "missing.toml")
    with pytest.raises(SetupError, match="is a folder"):
        read_config(tmp_path)
    (tmp_path / "latin.toml").write_bytes("name = 'ü'".encode("latin-1"))
    with pytest.raises(SetupError, match="not UTF-8"):
        read_config(tmp_path / "latin.toml")


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.toml")), ids=lambda path: path.name)
def test_the_shipped_configurations_are_valid(path: Path) -> None:
    assert read_config(path).methods

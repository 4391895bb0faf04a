"""The configuration of a benchmark or refinement, read from TOML and checked by pydantic before anything is computed.

Paths are relative to the folder of the configuration file. A misspelt key is an error that names the nearest valid one.
"""

from __future__ import annotations

import re
import sys
import tomllib
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from immuno_core.config.llm_server import LLMServerConfig, require_chat_model
from immuno_core.config.methods import MethodConfig, MethodEntry, PresetConfig
from immuno_core.config.numbers import MOST_SEED, real, seconds, whole
from immuno_core.config.refine import RefineConfig
from immuno_core.config.secrecy import shown_address, without_secrets
from immuno_core.errors import SetupError, did_you_mean, shown
from immuno_core.files import read_text
from immuno_core.paths import plain_path, shipped_configs
from immuno_core.text import fill_template

_LOCAL = "local-dir:"
_REPLAY = "replay:"


_MOST_PARTS: Final = 60
_ENDLESS_KEY: Final = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){{{_MOST_PARTS}}}""")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), hide_input_in_errors=True)


def _number_or_auto(value: Any) -> Any:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 2**20):
        raise ValueError('give a whole number from 1 to 1,048,576, or "auto"')
    return value


class EncoderConfig(_Section):
    """An open_clip model, and how it is run; or a table of texts embedded elsewhere (kind = "precomputed")."""

    kind: Literal["open_clip", "precomputed"] = "open_clip"
    model: str = ""
    """An open_clip name ("ViT-B-16"), or local-dir:/path, or hf-hub:name, or "miniworld" (the model shipped here).
    For "precomputed": which model the embeddings come from, if you want it shown."""
    pretrained: str | None = None
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    device: str = "auto"
    """auto (a GPU where the actor has one), cpu, cuda, or cuda:0."""
    batch_size: Annotated[int | Literal["auto"], BeforeValidator(_number_or_auto)] = "auto"
    """Images that the model is given at once. auto: as many as fit well into a GPU's free memory, 64 without a GPU."""
    fast_decode: bool = False
    """Decode and resize faster, within a stated tolerance of open_clip's own preprocessing: docs/embedding.md."""
    compile: bool = False
    """Compile the image tower with torch.compile: a minute or more at the start of each actor, faster from then on."""
    texts: Path | None = None
    """For "precomputed": the table of texts, see evaluation.data.precomputed."""
    logit_scale: Annotated[float, real(gt=0)] | None = None
    """For "precomputed": that of the model the embeddings come from; default 100. Other models bring their own."""

    @model_validator(mode="after")
    def _one_kind(self) -> EncoderConfig:
        if self.kind == "precomputed":
            if self.texts is None:
                raise ValueError('kind = "precomputed" needs texts, a table such as "texts.npz"')
        elif not self.model:
            raise ValueError("the key 'model' is missing: an open_clip name, local-dir:/path, hf-hub:name or miniworld")
        elif self.texts is not None or self.logit_scale is not None:
            raise ValueError('texts and logit_scale go with kind = "precomputed" only')
        return self


def store_place(value: Any) -> Any:
    """Return a place of files as a URL that fsspec takes, where it is one, else as a Path; other values as they are.

    Raises ValueError for a URL that holds a user or a password: configurations are stored and shown.
    """
    if not isinstance(value, str):
        return value
    if "://" not in value:
        return Path(value)
    if "?" in value or shown_address(value) != value:
        raise ValueError(
            "give the bare URL (s3://bucket/folder); keys and passwords come from the environment (AWS_ACCESS_KEY_ID, "
            "AWS_PROFILE, ...), because configurations are stored"
        )
    return value


class ClusterConfig(_Section):
    """The embedding actors, and where embeddings are stored."""

    actors: Annotated[int, whole(1)] | None = None
    """How many; default: one per GPU, or one per CPU core (at most 8) where there is no GPU."""
    num_gpus: Annotated[float, real(ge=0)] | None = None
    """GPUs of each actor (fractions allowed); default: 1 where the cluster has GPUs, else 0."""
    num_cpus: Annotated[float, real(gt=0)] = 1.0
    decode_threads: Annotated[int, whole(1, 1024)] | None = None
    """Threads of each actor that decode images ahead of its model; default: one, or its GPU's share of the machine's
    CPU cores."""
    shard_size: Annotated[int, whole(1)] = 256
    """Images in a shard: the unit of work, of storage and of resumption."""
    store: Annotated[Path | str | None, BeforeValidator(store_place)] = None
    """The embedding store: a folder, or a URL that fsspec takes ("s3://bucket/folder"), see docs/store.md; default:
    $IMMUNO_CACHE (or the user's cache folder) / embeddings."""
    store_dtype: Literal["float32", "float16"] = "float32"
    """How image embeddings are stored. float16 takes half the room and costs up to 6e-5 in cosine."""
    file_identity: Literal["mtime", "content"] = "mtime"
    """What tells that an image is the one already embedded: its path, size and time, or the bytes themselves (which
    are then read in every run, but images may be moved or copied)."""
    hung_seconds: Annotated[float, seconds()] = 1800.0
    """An actor that has work and finishes none of it for so long is taken for hung, and replaced."""


def _one_place(template: str) -> str:
    try:
        fill_template(template, [""])
    except SetupError as error:
        raise ValueError(str(error)) from None
    return template


Template = Annotated[str, AfterValidator(_one_place)]


class ClassesConfig(_Section):
    """The known classes."""

    names: Literal["dataset", "imagenet1k"] | Path
    """A text file with one class per line, "dataset" (the folders of data.fit, else data.id), or "imagenet1k"."""
    synonyms: Path | None = None
    """A text file of other names of the classes, "CLASS: NAME, NAME" on each line: no antibody may be one of them."""
    template: Template = "a photo of a {}."
    allow_empty: bool = False
    """Go on, with a warning, where a known class has no fit image that can be read (without `data.fit` and with the
    names of the data set: no image at all)."""


Share = Annotated[float, real(ge=0, most=1)]


class SourceConfig(_Section):
    """Where one image set comes from; see evaluation.data.sources."""

    name: str | None = None
    path: Path | None = None
    """A folder (class folders, or flat for outliers), a text file of image paths with optional labels, or WebDataset
    tars: "x.tar", "tars/{000..009}.tar", "tars/*.tar"."""
    root: Path | None = None
    """The folder that the paths of an image list are relative to; default: the list's own."""
    features: Path | None = None
    """A file of embeddings instead of images, .npz or .safetensors; see evaluation.data.feature_files."""
    builtin: Literal["miniworld"] | None = None
    shield_log: Path | None = None
    """For feedback: the folder in which a shield logged what it rejected (immuno guard judge --log, serve --log)."""
    expected: Annotated[int, whole(1)] | None = None
    """How many images the set should have: another number is an error before anything is computed."""
    keep: Path | None = None
    """A text file with the names of the images that the set is to have, one on each line; the others are left out.
    For clean subsets, such as NINCO's lists of images that hold no known object."""
    drop: Path | None = None
    """The same with the names of those that are left out."""
    part: tuple[Share, Share] | None = None
    """[FROM, TO], shares from 0 to 1: of the images only those whose content's hash falls between. So sets of one
    folder are apart, exact copies of an image are in one of them, and images that are added change none that are there.
    """
    distance: Literal["near", "far"] | None = None
    """Of outliers: how near to the known classes they are. Means over near and over far sets are shown apart."""

    @model_validator(mode="after")
    def _one_source(self) -> SourceConfig:
        if sum(one is not None for one in (self.path, self.features, self.builtin, self.shield_log)) != 1:
            raise ValueError("give exactly one of: path, features, builtin (or shield_log, for feedback)")
        if self.root is not None and self.path is None:
            raise ValueError("root goes with path, an image list")
        if self.keep is not None and self.drop is not None:
            raise ValueError("give keep or drop, not both")
        if self.builtin is not None and (self.keep is not None or self.drop is not None):
            raise ValueError("keep and drop go with path or features; the built-in world is clean")
        if self.part is not None and (self.path is None or self.part[0] >= self.part[1]):
            raise ValueError("part goes with path, and is [FROM, TO] with FROM less than TO, as in [0.0, 0.4]")
        return self


LOGGED: Final = "rejected.txt"
"""The list of images in the folder of a `shield_log`."""


class DataConfig(_Section):
    """The three splits. Outlier sets of the loop and of the sealed test are kept apart."""

    fit: SourceConfig | None = None
    """ID images for prototypes, radii and thresholds."""
    id: SourceConfig
    """Sealed ID test set."""
    ood: Annotated[tuple[SourceConfig, ...], Field(min_length=1)]
    """Sealed outlier sets."""
    feedback: tuple[SourceConfig, ...] = ()
    """Outlier sets that the loop may see."""
    feedback_id: SourceConfig | None = None
    """ID images that choices, thresholds and the loop are measured on. Without it fit images are: the benchmark fits
    without those that it measures on, a fifth at a time; the loop holds out half of them, chosen by the seed."""
    overlap: Literal["error", "drop"] = "error"
    """What to do with images of two sets that must be apart (fit, feedback, test; known, outliers): refuse, or leave
    them out of the later one."""

    @model_validator(mode="after")
    def _named(self) -> DataConfig:
        known = {"fit": self.fit, "id": self.id, "feedback_id": self.feedback_id}
        if wrong := [key for key, source in known.items() if source is not None and source.distance is not None]:
            raise ValueError(f"distance goes with outlier sets; leave it out of [data.{wrong[0]}]")
        for key, one in (*known.items(), *(("ood", one) for one in self.ood)):
            if one is not None and one.shield_log is not None:
                raise ValueError(f"shield_log goes with [[data.feedback]]; leave it out of [data.{key}]")
        for key, sources in (("ood", self.ood), ("feedback", self.feedback)):
            names = [source.name for source in sources]
            if None in names:
                raise ValueError(f"every [[data.{key}]] needs a name")
            if len(set(names)) < len(names):
                raise ValueError(f"two [[data.{key}]] have one name")
        if self.feedback and self.fit is None and self.feedback_id is None:
            raise ValueError(
                "[[data.feedback]] tells nothing without known images beside its outliers: give [data.feedback_id], or "
                "[data.fit]"
            )
        return self


class AntibodiesConfig(_Section):
    """Which bank the benchmark measures."""

    template: Template = "{}"
    """The prompt around each text of a file; "{}" where the texts are whole prompts."""
    file: Path | None = None
    """A .jsonl bank, an EOE .json, or a plain .txt list (one text per line)."""
    drop_known: bool = True
    """Leave out of a file what names a known class or was said before, as EOE's code does."""
    session: str | None = None
    generation: Annotated[int, whole(0)] | None = None
    """Default: the session's best generation."""
    words: Literal["wordnet"] | Path | None = None
    """What controls and mined baselines (NegLabel, CSP) draw words from: "wordnet" (with the extra `words`), a text
    file with a noun per line, or a folder with nouns.txt, and if you like adjectives.txt and places.txt. Default: the
    short vocabulary shipped here."""

    @model_validator(mode="after")
    def _one_source(self) -> AntibodiesConfig:
        if self.file is not None and self.session is not None:
            raise ValueError("give file or session, not both")
        return self


class RunConfig(_Section):
    """A whole configuration file."""

    seed: Annotated[int, whole(0, MOST_SEED)] = 0
    encoder: EncoderConfig
    cluster: ClusterConfig = ClusterConfig()
    classes: ClassesConfig
    data: DataConfig
    antibodies: AntibodiesConfig = AntibodiesConfig()
    methods: Annotated[tuple[MethodEntry, ...], Field(min_length=1)]
    refine: RefineConfig = RefineConfig()
    llm_server: LLMServerConfig | None = None
    """A chat server for refine.llm, started with the run."""

    @property
    def word_template(self) -> str:
        """The prompt in which single words are said, those of controls and those that a chat model names: as the bank
        says its texts. A bank whose template is "{}" holds whole prompts; its words are said as class names are."""
        return self.classes.template if self.antibodies.template == "{}" else self.antibodies.template

    @model_validator(mode="after")
    def _server_fits(self) -> RunConfig:
        require_chat_model(self.llm_server, self.refine.llm, self.refine.base_url)
        return self


def read_config(path: str | PathLike[str]) -> RunConfig:
    """Read and check a configuration file; paths in it become absolute.

    "configs/NAME", where there is no such file, is the one of that name that comes with immuno; standard error says so.
    Raises SetupError naming the file, the key and what to put right.
    """
    path = Path(path)
    shipped = shipped_configs() / path.name
    if path.parent == Path("configs") and shipped.is_file() and not path.exists():
        sys.stderr.write(f"no {path} here: taking {shipped}\n")
        path = shipped
    text = read_text(path, "configuration file", hint="configs/ holds examples")
    if _ENDLESS_KEY.search(text):  # over one of 50,000 parts the parser takes minutes
        raise SetupError(f"{path} has a dotted key of more than {_MOST_PARTS} parts")
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        raise SetupError(f"{path} is nested too deeply for a configuration") from None
    except ValueError as error:  # also a number of more digits than Python reads
        raise SetupError(f"{path} is not valid TOML: {error}") from None
    return parse_config(raw, origin=str(path), folder=path.resolve().parent)


def parse_config(raw: dict[str, Any], *, origin: str, folder: Path) -> RunConfig:
    """Check a configuration already in memory; `origin` is named in errors, paths are taken relative to `folder`."""
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        raise SetupError(f"{origin}: " + "; ".join(_explain(one) for one in _causes(error)[:3])) from None
    except RecursionError:
        raise SetupError(f"{origin} is nested too deeply for a configuration") from None
    resolved: RunConfig = _with_absolute_paths(config, folder)
    refine, encoder, server = resolved.refine, resolved.encoder, resolved.llm_server
    if server is not None and server.model is not None and server.model.startswith(("./", "../")):
        server = server.model_copy(update={"model": str((folder / server.model).resolve())})
    changes = {
        "encoder": encoder.model_copy(
            update={
                "model": _named_path(encoder.model, _LOCAL, folder),
                "pretrained": _weights(encoder.pretrained, folder),
            }
        ),
        "refine": refine.model_copy(update={"llm": _named_path(refine.llm, _REPLAY, folder)}),
        "llm_server": server,
    }
    return resolved.model_copy(update=changes)


def _named_path(name: str, prefix: str, folder: Path) -> str:
    """The name; a relative path after `prefix` is taken from `folder`."""
    path = name.removeprefix(prefix)
    return name if path == name else f"{prefix}{plain_path(folder / path)}"


def _weights(pretrained: str | None, folder: Path) -> str | None:
    """The tag of weights, which has neither slash nor suffix; or their file, a relative one taken from `folder`."""
    if pretrained is None or not ("/" in pretrained or Path(pretrained).suffix):
        return pretrained
    return str(plain_path(folder / pretrained))


def _causes(error: ValidationError) -> list[ErrorDetails]:
    """The errors, without "too few entries" where the entries themselves are wrong."""
    found = error.errors()
    places = [one["loc"] for one in found]
    return [
        one
        for one in found
        if one["type"] != "too_short"
        or not any(len(place) > len(one["loc"]) and place[: len(one["loc"])] == one["loc"] for place in places)
    ]


def _explain(error: ErrorDetails) -> str:
    where, given = _where(error["loc"]), error["input"]
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])[:_LONGEST_KEY]
        return f"unknown key '{where}'{did_you_mean(key, _keys_at(error['loc'][:-1]))}"
    if error["type"] == "missing":
        example = '; add [[methods]] with name = "immuno_vlm", for instance' if where == "methods" else ""
        return f"the key '{where}' is missing{example}"
    if error["type"] == "tuple_type" and isinstance(given, dict):
        return f"{where}: write [[{where}]] with double brackets, once for each"
    if error["type"] == "literal_error":
        valid = re.findall("'([^']*)'", str(error["ctx"]["expected"]))
        return f"{where} = {shown(given)}{did_you_mean(shown(given), valid)}"
    given = without_secrets(given) if isinstance(given, str) else given  # before it is cut
    value = f" = {shown(given)}" if isinstance(given, str | int | float) else ""
    return without_secrets(f"{where or 'configuration'}{value}: {error['msg'].removeprefix('Value error, ')}")


_LONGEST_KEY: Final = 60
_TAGS = {"method": MethodConfig, "preset": PresetConfig}


def _where(location: tuple[int | str, ...]) -> str:
    """The key as a user would say it: entries counted from 1, and pydantic's names for kinds of entries left out."""
    parts = [
        part
        for i, part in enumerate(location)
        if not (part in _TAGS and i and isinstance(location[i - 1], int) and location[0] == "methods")
    ]
    words = (f" no. {part + 1}" if isinstance(part, int) else f".{part[:_LONGEST_KEY]}" for part in parts)
    return "".join(words).removeprefix(".")


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the section at a location of the configuration."""
    section: Any = RunConfig
    for part in location:
        if section in _TAGS.values() and part in _TAGS:
            section = _TAGS[str(part)]
        elif isinstance(part, str) and section is not None and part in section.model_fields:
            section = _section_of(section.model_fields[part].annotation)
    return list(section.model_fields) if section is not None else []


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The section class within `X`, `X | None`, `tuple[X, ...]` or `Annotated[...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _section_of(inner)) is not None:
            return found
    return None


def _with_absolute_paths(section: Any, folder: Path) -> Any:
    """Return the section with every relative Path, at any depth, taken from `folder`; so are modules of own scores.

    None has ".." in it any more: by its path an image is known to the embedding store.
    """
    if isinstance(section, Path):
        return plain_path(folder / section)  # what is absolute stays where it is
    if isinstance(section, tuple):
        return tuple(_with_absolute_paths(item, folder) for item in section)
    if isinstance(section, BaseModel):
        changes = {name: _with_absolute_paths(getattr(section, name), folder) for name in type(section).model_fields}
        if isinstance(section, MethodConfig) and ":" in section.name:
            changes["folder"] = changes["folder"] or folder
        return section.model_copy(update=changes)
    return section


def config_as_dict(config: RunConfig) -> dict[str, Any]:
    """Return the configuration as plain JSON values. It holds no secret: keys come from the environment only."""
    dumped: dict[str, Any] = config.model_dump(mode="json")
    return dumped

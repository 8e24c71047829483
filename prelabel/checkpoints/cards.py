"""Model cards: description and source of a checkpoint, and checks of its files on disk.

A card is a YAML file; those that `prelabel models` lists lie beside this module and in segmenters/.
A path to a YAML file is a valid name, too: a fine-tuned checkpoint is a card of its own beside its
weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from prelabel.checkpoints.file_faults import fault_of
from prelabel.checkpoints.published import Published
from prelabel.errors import ModelError
from prelabel.settings import AppSettings
from prelabel.settings.faults import first_fault
from prelabel.settings.paths import resolve_path

CARDS_FOLDER = Path(__file__).resolve().parent
SEGMENTERS_FOLDER = CARDS_FOLDER / "segmenters"
TEXT_ENCODERS_FOLDER = CARDS_FOLDER / "text_encoders"
LOCK_NAME = "checkpoint.lock.json"
_CHUNK_BYTES = 1 << 20


def _relative(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError("must be a path inside the model's folder")
    return path


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFile(_Frozen):
    """One file of a checkpoint."""

    path: Annotated[str, AfterValidator(_relative)] = Field(
        description="Path in the hub's repository, and in the model's folder."
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="Null if no hash is on record: the download then checks the file against the "
        "hash that the hub publishes, and records this hash in the lock file.",
    )
    size: int | None = Field(None, ge=1, description="In bytes.")


class ImageSize(_Frozen):
    """Size in pixels that pictures are resized to, with their aspect ratio kept."""

    shortest_edge: int = Field(ge=32, description="Length of the shorter side, in pixels.")
    longest_edge: int = Field(ge=32, description="Limit of the longer side; it takes precedence.")


class Card(_Frozen):
    """The facts about a checkpoint that do not depend on what its model does."""

    shipped_in: ClassVar[Path]  # folder of the shipped cards, and of the embedded checkpoints

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Also its folder's name.")
    title: str = Field(description="One line for `prelabel models` and the docs.")
    engine: str
    source: str = Field(
        description="Repository on the hub, `embedded` (part of this project) or `local` (the "
        "card's own folder)."
    )
    revision: str | None = Field(
        None, description="Commit of that repository; null: the newest at the time of the download."
    )
    files: tuple[ModelFile, ...] = Field(min_length=1)
    weights: str = Field(description="The file of the list that holds the weights.")
    licence: str
    limits: str = Field("", description="Limits of the model that users should know.")
    published: Published | None = None
    folder: Path | None = Field(None, description="Folder of a card that was named by a path.")

    @model_validator(mode="after")
    def _weights_are_listed(self) -> Self:
        if self.weights not in {file.path for file in self.files}:
            raise ValueError("weights must be one of the files")
        return self

    @property
    def downloadable(self) -> bool:
        """True if the checkpoint comes from the hub."""
        return self.source not in ("embedded", "local")


class ModelCard(Card):
    """Everything that is specific to one detector; engines hold no facts about checkpoints."""

    shipped_in = CARDS_FOLDER

    engine: Literal["groundingdino", "huggingface"] = Field(
        description="`groundingdino`: model code of groundingdino-py, checkpoints of the paper's "
        "authors (.pth); `huggingface`: transformers, also MM-Grounding-DINO and LLMDet."
    )
    config: str | None = Field(
        None,
        description="For groundingdino: a file in the model's folder, or one of the "
        "library's own configs; null: config.json in transformers' format.",
    )
    text_encoder: str = Field(
        "checkpoint",
        description="Source of tokenizer and BERT config: `checkpoint`, or a folder in "
        "prelabel/checkpoints/text_encoders.",
    )
    image_size: ImageSize
    max_text_tokens: int = Field(
        256, ge=8, le=512, description="Longest caption, in tokens, [CLS] included."
    )
    knows: tuple[str, ...] = Field(
        (), description="The words that a small model knows; empty for all English words."
    )


class SegmenterCard(Card):
    """Everything that is specific to one segmenter. Its config.json has the model's sizes."""

    shipped_in = SEGMENTERS_FOLDER

    engine: Literal["segment_anything"] = Field(
        description="SAM or SAM 2 in transformers' format; config.json says which."
    )
    weights: str = Field(
        pattern=r"\.safetensors$", description="The file of the list that holds the weights."
    )
    square_views: bool = Field(
        False,
        description="Segment small boxes of pictures wider than 3:2 or higher than 2:3 in a square "
        "part of the picture: finer masks, at one encoding for each part that holds a box.",
    )


CardT = TypeVar("CardT", bound=Card)


class LockedFile(_Frozen):
    """Hash and size in bytes of a downloaded file, as verified."""

    sha256: str
    size: int


class CheckpointLock(_Frozen):
    """Record of a download, stored beside the weights: commit, hashes and sizes."""

    source: str
    revision: str
    files: dict[str, LockedFile]


def list_cards() -> list[ModelCard]:
    """Return the shipped cards of detectors, sorted by name."""
    return _list(ModelCard)


def list_segmenter_cards() -> list[SegmenterCard]:
    """Return the shipped cards of segmenters, sorted by name."""
    return _list(SegmenterCard)


def load_card(name: str) -> ModelCard:
    """Return the detector's card of that name, or the card in that YAML file.

    Raises ModelError for an unknown name, and for a file that is not a valid card.
    """
    return _load(ModelCard, "model", name)


def load_segmenter_card(name: str) -> SegmenterCard:
    """Return the segmenter's card of that name, or the card in that YAML file.

    Raises ModelError for an unknown name, and for a file that is not a valid card.
    """
    return _load(SegmenterCard, "segmenter", name)


def load_any_card(name: str) -> ModelCard | SegmenterCard:
    """Return the card of that name, of a detector or a segmenter, or the card in that YAML file.

    Raises ModelError for an unknown name, and for a file that is not a valid card.
    """
    if name in _names(SegmenterCard) or (_is_path(name) and _is_segmenters(name)):
        return load_segmenter_card(name)
    if name in _names(ModelCard) or _is_path(name):
        return load_card(name)
    raise _unknown("model", name, _names(ModelCard) + _names(SegmenterCard))


def model_folder(card: Card, models_dir: str | Path) -> Path:
    """Return the folder of the card's files, existing or not.

    The embedded model is part of the package; a relative models_dir is resolved like a setting.
    """
    if card.source == "local" and card.folder is not None:
        return card.folder
    root = card.shipped_in if card.source == "embedded" else resolve_path(models_dir)
    return root / card.name


def text_encoder_folder(card: ModelCard, folder: Path) -> Path:
    """Return the folder of the tokenizer and the BERT config of a model whose folder is `folder`.

    Raises ModelError for a text encoder that is not part of this project.
    """
    if card.text_encoder == "checkpoint":
        return folder
    known = sorted(path.name for path in TEXT_ENCODERS_FOLDER.iterdir() if path.is_dir())
    if card.text_encoder not in known:
        raise ModelError(
            f"There is no text encoder {card.text_encoder!r}. In the card of {card.name}, set "
            f"{' or '.join(known)}, or omit the line if the checkpoint has a tokenizer.json."
        )
    return TEXT_ENCODERS_FOLDER / card.text_encoder


def check_installed(card: Card, folder: Path) -> None:
    """Raise ModelError unless every file exists, has its full size and the format of its name.

    Reads only the beginning of each file, because it runs at every start of the service.
    """
    locked = read_lock(folder)
    for file in card.files:
        expected = _expected(file, locked).size
        path = folder / file.path
        if not path.is_file():
            raise ModelError(f"{card.name} lacks {file.path}. {_remedy(card)}")
        fault = fault_of(path)
        size = path.stat().st_size
        if fault is None and expected is not None and size != expected:
            fault = f"is not complete: it has {size} of {expected} bytes"
        if fault is not None:
            raise ModelError(f"{card.name}: {file.path} {fault}. {_remedy(card)}")


def installed_segmenter(settings: AppSettings) -> SegmenterCard | None:
    """Return the card of the segmenter that the settings name; None if they name none.

    Raises ModelError if it is unknown or not installed.
    """
    if not settings.segmenter_name:
        return None
    card = load_segmenter_card(settings.segmenter_name)
    check_installed(card, model_folder(card, settings.model.folder))
    return card


def verify(card: Card, folder: Path) -> None:
    """Raise ModelError unless every file exists and has the SHA-256 on record. Reads all bytes."""
    check_installed(card, folder)
    locked = read_lock(folder)
    for file in card.files:
        expected = _expected(file, locked).sha256
        if expected is not None and sha256_of(folder / file.path) != expected:
            raise ModelError(f"{card.name}: {file.path} is damaged. {_remedy(card)}")


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _remedy(card: Card) -> str:
    if card.downloadable:
        return f"Run `prelabel download {card.name}`."
    if card.source == "embedded":
        return "It is part of this package: restore or reinstall prelabel."
    return "Put the complete file beside the card; `git lfs pull` replaces pointers by files."


def _expected(file: ModelFile, lock: CheckpointLock | None) -> ModelFile:
    """Return the hash and the size on record: the card's, or else the lock file's."""
    locked = lock.files.get(file.path) if lock else None
    if locked is None:
        return file
    return ModelFile(
        path=file.path,
        sha256=locked.sha256 if file.sha256 is None else file.sha256,
        size=locked.size if file.size is None else file.size,
    )


def read_lock(folder: Path) -> CheckpointLock | None:
    """Return the record of the download in a folder; None without a record.

    Raises ModelError for a record that cannot be read.
    """
    path = folder / LOCK_NAME
    if not path.is_file():
        return None
    try:
        return CheckpointLock.model_validate(json.loads(path.read_text()))
    except ValueError as error:
        raise ModelError(
            f"{path.name} of the model is damaged. Download the model again."
        ) from error


def _list(kind: type[CardT]) -> list[CardT]:
    return [_read_card(kind, kind.shipped_in / f"{name}.yaml") for name in _names(kind)]


def _names(kind: type[Card]) -> list[str]:
    return sorted(path.stem for path in kind.shipped_in.glob("*.yaml"))


def _load(kind: type[CardT], noun: str, name: str) -> CardT:
    if name in _names(kind):
        return _read_card(kind, kind.shipped_in / f"{name}.yaml")
    if _is_path(name):
        path = resolve_path(name).resolve()
        return _read_card(kind, path).model_copy(update={"folder": path.parent})
    raise _unknown(noun, name, _names(kind))


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _is_segmenters(path: str) -> bool:
    content = _read_yaml(resolve_path(path).resolve())
    return isinstance(content, dict) and content.get("engine") == "segment_anything"


def _unknown(noun: str, name: str, known: Sequence[str]) -> ModelError:
    near = get_close_matches(name, known, 1)
    meant = f" Did you mean {near[0]}?" if near else ""
    return ModelError(
        f"There is no {noun} named {name!r}.{meant} Known are {', '.join(known)}; the path of "
        "another card (.yaml) works, too."
    )


def _read_card(kind: type[CardT], path: Path) -> CardT:
    try:
        return kind.model_validate(_read_yaml(path))
    except ValidationError as error:
        raise ModelError(
            f"The model card {path.name} is wrong at {first_fault(error)}. Correct it."
        ) from error


def _read_yaml(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ModelError(f"There is no model card {path.name}. Check its path.") from error
    except yaml.YAMLError as error:
        raise ModelError(f"The model card {path.name} is not valid YAML. Correct it.") from error

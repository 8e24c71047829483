"""Model cards: what a checkpoint is, where it comes from, and whether it is complete on disk.

Cards are YAML files, those of `prelabel models` in prelabel/checkpoints/. A path to a YAML file
serves as a name, too: a fine-tuned checkpoint of one's own is a card beside its weights.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from prelabel.checkpoints.file_faults import fault_of
from prelabel.errors import ModelError
from prelabel.settings.paths import resolve_path

CARDS_FOLDER = Path(__file__).resolve().parent
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
        description="Null where no hash is on record: the download then holds the file to the "
        "hash that the hub publishes for it, and writes that down in the lock file.",
    )
    size: int | None = Field(None, ge=1, description="In bytes.")


class ImageSize(_Frozen):
    """Pixels that pictures are resized to, keeping their proportions."""

    shortest_edge: int = Field(ge=32, description="Length of the shorter side, in pixels.")
    longest_edge: int = Field(ge=32, description="Limit of the longer side; it wins.")


class ModelCard(_Frozen):
    """All that is specific to one checkpoint; the engines' code knows none of it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Also its folder's name.")
    title: str = Field(description="One line for people.")
    engine: Literal["groundingdino", "huggingface"] = Field(
        description="`groundingdino`: model code of groundingdino-py, checkpoints of the paper's "
        "authors (.pth); `huggingface`: transformers, also MM-Grounding-DINO and LLMDet."
    )
    source: str = Field(
        description="Repository on the hub, `embedded` (part of this project) or `local` (the "
        "card's own folder)."
    )
    revision: str | None = Field(
        None, description="Commit of that repository; null: the newest when downloading."
    )
    files: tuple[ModelFile, ...] = Field(min_length=1)
    weights: str = Field(description="Which of the files holds the weights.")
    config: str | None = Field(
        None,
        description="For groundingdino: a file in the model's folder, or one of the "
        "library's own configs; null: config.json in transformers' format.",
    )
    text_encoder: str = Field(
        "checkpoint",
        description="Where tokenizer and BERT config come from: `checkpoint`, or a folder in "
        "prelabel/checkpoints/text_encoders.",
    )
    image_size: ImageSize
    max_text_tokens: int = Field(256, ge=8, le=512, description="Of a caption, [CLS] included.")
    licence: str
    limits: str = Field("", description="What users should know before they trust it.")
    folder: Path | None = Field(None, description="Set for cards that were given as a path.")

    @model_validator(mode="after")
    def _weights_are_listed(self) -> Self:
        if self.weights not in {file.path for file in self.files}:
            raise ValueError("weights must be one of the files")
        return self

    @property
    def downloadable(self) -> bool:
        """Whether the hub has it."""
        return self.source not in ("embedded", "local")


class LockedFile(_Frozen):
    """What a download wrote: the hash that it verified."""

    sha256: str
    size: int


class CheckpointLock(_Frozen):
    """What was downloaded, to the byte; stands beside the weights."""

    source: str
    revision: str
    files: dict[str, LockedFile]


def list_cards() -> list[ModelCard]:
    """The shipped cards, by name."""
    return [_read_card(path) for path in sorted(CARDS_FOLDER.glob("*.yaml"))]


def load_card(name: str) -> ModelCard:
    """The card of that name, or in that YAML file.

    Raises ModelError for an unknown name, and for a file that is no card.
    """
    shipped = CARDS_FOLDER / f"{name}.yaml"
    if shipped.parent == CARDS_FOLDER and shipped.is_file():
        return _read_card(shipped)
    if name.endswith((".yaml", ".yml")):
        path = resolve_path(name).resolve()
        return _read_card(path).model_copy(update={"folder": path.parent})
    known = ", ".join(path.stem for path in sorted(CARDS_FOLDER.glob("*.yaml")))
    raise ModelError(
        f"There is no model named {name!r}. Known are {known}; a path to a card of your own "
        "(.yaml) works, too."
    )


def model_folder(card: ModelCard, models_dir: str | Path) -> Path:
    """Where the card's files lie, or would lie after `prelabel download`."""
    if card.source == "local" and card.folder is not None:
        return card.folder
    root = CARDS_FOLDER if card.source == "embedded" else resolve_path(models_dir)
    return root / card.name


def text_encoder_folder(card: ModelCard, folder: Path) -> Path:
    """Where the tokenizer and the BERT config lie. `folder`: the model's.

    Raises ModelError for a text encoder that is not part of this project.
    """
    if card.text_encoder == "checkpoint":
        return folder
    known = sorted(path.name for path in TEXT_ENCODERS_FOLDER.iterdir() if path.is_dir())
    if card.text_encoder not in known:
        raise ModelError(
            f"There is no text encoder {card.text_encoder!r}. Say {' or '.join(known)} in the card "
            f"of {card.name}, or leave the line out where the checkpoint has a tokenizer.json."
        )
    return TEXT_ENCODERS_FOLDER / card.text_encoder


def check_installed(card: ModelCard, folder: Path) -> None:
    """Raise ModelError unless every file is there in its full size, and is what its name says.

    Reads the beginning of each file only.
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


def verify(card: ModelCard, folder: Path) -> None:
    """Raise ModelError unless every file is there and has the SHA-256 on record. Reads all."""
    check_installed(card, folder)
    locked = read_lock(folder)
    for file in card.files:
        expected = _expected(file, locked).sha256
        if expected is not None and sha256_of(folder / file.path) != expected:
            raise ModelError(f"{card.name}: {file.path} is damaged. {_remedy(card)}")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _remedy(card: ModelCard) -> str:
    if card.downloadable:
        return f"Run `prelabel download {card.name}`."
    if card.source == "embedded":
        return "It is part of this project: restore its folder models/ from the repository."
    return "Put the file beside the card, whole; `git lfs pull` fetches what pointers stand for."


def _expected(file: ModelFile, lock: CheckpointLock | None) -> ModelFile:
    """The card's word, and where it is silent the lock's."""
    locked = lock.files.get(file.path) if lock else None
    if locked is None:
        return file
    return ModelFile(
        path=file.path,
        sha256=locked.sha256 if file.sha256 is None else file.sha256,
        size=locked.size if file.size is None else file.size,
    )


def read_lock(folder: Path) -> CheckpointLock | None:
    """What the download wrote beside the weights, if it is from one."""
    path = folder / LOCK_NAME
    if not path.is_file():
        return None
    try:
        return CheckpointLock.model_validate(json.loads(path.read_text()))
    except ValueError as error:
        raise ModelError(f"{path.name} of the model is damaged. Download it again.") from error


def _read_card(path: Path) -> ModelCard:
    try:
        return ModelCard.model_validate(yaml.safe_load(path.read_text()))
    except FileNotFoundError as error:
        raise ModelError(f"There is no model card {path.name}. Check its path.") from error
    except yaml.YAMLError as error:
        raise ModelError(f"The model card {path.name} is not valid YAML. Correct it.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ModelError(
            f"The model card {path.name} is wrong at {where}: {first['msg']}. Correct it."
        ) from error

"""The account of the demo's Label Studio: generated once, kept in a file for its owner alone."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from prelabel.errors import PrelabelError

USER: Final = "demo@localhost"
_NAME: Final = "account.json"
_ENVIRONMENT: Final = "environment"


class DemoError(PrelabelError):
    """The demo cannot be set up or started. The message says what to do."""


class Account(BaseModel):
    """User, password, and a token of Label Studio, legacy or personal."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    user: str
    password: SecretStr
    token: SecretStr


def stored_account(folder: Path) -> Account | None:
    """Return the account of a demo's folder; None if it has none yet.

    Raises DemoError if its file cannot be read.
    """
    path = folder / _NAME
    try:
        return Account.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise DemoError(
            f"{path} holds no account that can be read. Start afresh: remove the folder {folder} "
            "with the demo's projects in it."
        ) from None


def new_account() -> Account:
    """Return an account with a password and a legacy token that are random."""
    password, token = secrets.token_urlsafe(12), secrets.token_hex(20)
    return Account(user=USER, password=SecretStr(password), token=SecretStr(token))


def store(account: Account, folder: Path) -> None:
    """Write the account to a demo's folder, readable for its owner alone."""
    shown = {
        "user": account.user,
        "password": account.password.get_secret_value(),
        "token": account.token.get_secret_value(),
    }
    write_private(folder / _NAME, json.dumps(shown, indent=2) + "\n")


def write_environment(account: Account, url: str, folder: Path) -> Path:
    """Write the variables of the other commands as lines for a shell; return their file."""
    path = folder / _ENVIRONMENT
    write_private(
        path,
        f"export LABEL_STUDIO_HOST={url}\n"
        f"export LABEL_STUDIO_ACCESS_TOKEN={account.token.get_secret_value()}\n",
    )
    return path


def private_folder(folder: Path) -> Path:
    """Create a folder that its owner alone can read, and return it. Raises DemoError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(
            f"The folder {folder} cannot be made ({error.strerror}). Give another --folder."
        ) from error
    return folder.absolute()


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, at once or not at all. Raises DemoError."""
    draft = path.with_suffix(".new")
    try:
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise DemoError(
            f"{path} cannot be written ({error.strerror}). Give another --folder."
        ) from error

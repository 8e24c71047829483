"""The demo's Label Studio: a command that listens on loopback, an environment without a way out."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from prelabel.cli.demo.account import Account

_DATABASE: Final = "label_studio.sqlite3"
# Label Studio sends nothing to its developers, and backends and webhooks may be on this machine.
SWITCHES: Final = {
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "ML_BLOCK_LOCAL_IP": "false",
    "SSRF_PROTECTION_ENABLED": "false",
}
# Label Studio has no switch for its tips, which it requests from GitHub. Nothing listens on port 9.
NO_WAY_OUT: Final = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost,::1",
}


def command(program: Path, port: int) -> list[str | Path]:
    """Return the command that starts Label Studio on a port of this machine's loopback.

    Label Studio would silently choose another port for one that is in use.
    """
    return [
        *(program, "start", "--port", str(port), "--internal-host", "127.0.0.1"),
        *("--no-browser", "--enable-legacy-api-token"),
    ]


def variables(folder: Path, account: Account) -> dict[str, str]:
    """Return Label Studio's whole environment.

    The caller's own variables are not in it, because they may name the database of another Label
    Studio. The account is given here, because a command line can be read by all users.

    Args:
        folder: Keeps the database and the uploaded pictures.
        account: Created at the first start; further starts ignore it. Others cannot sign up.
    """
    return {
        **SWITCHES,
        "PATH": os.defpath,
        "HOME": str(folder),
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_USERNAME": account.user,
        "LABEL_STUDIO_PASSWORD": account.password.get_secret_value(),
        "LABEL_STUDIO_USER_TOKEN": account.token.get_secret_value(),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
    }


def copy_empty_database(program: Path, folder: Path) -> bool:
    """Give a folder without a database the empty one that `make demo` creates beside the program.

    It saves Label Studio a minute at its first start. Returns False if the folder has a database
    already, or there is none to copy.
    """
    target = folder / _DATABASE
    source = program.parent.parent / "empty" / _DATABASE
    if target.exists() or not source.is_file():
        return False
    draft = target.with_suffix(".new")
    shutil.copyfile(source, draft)
    draft.replace(target)
    return True


def count_migrations(folder: Path) -> int:
    """Return how many steps of its database Label Studio has done so far."""
    file = folder / _DATABASE
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            [(count,)] = database.execute("SELECT COUNT(*) FROM django_migrations")
    except sqlite3.Error:  # the file or its table is not there yet, or is being written
        return 0
    return int(count)

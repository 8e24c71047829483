"""A config of Serve with a digest of the code under `release`, for `serve deploy`.

Serve rolls out a config that differs from the one that runs, and looks at no file of the code:
without this, the same config would leave the replicas on the old code for ever.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import yaml

from prelabel.checkpoints.cards import sha256_of
from prelabel.settings.paths import PROJECT_ROOT

_CODE = (
    *("serve_app.py", "deployments/**/*.py", "requirements/serve.txt"),
    *("prelabel/**/*.py", "prelabel/**/*.c", "prelabel/**/*.yaml"),
)


def digest(root: Path) -> str:
    """Twelve letters that change with any file of the code, with its name or with what it needs."""
    found = hashlib.sha256()
    for path in sorted({path for pattern in _CODE for path in root.glob(pattern)}):
        found.update(f"{path.relative_to(root).as_posix()} {sha256_of(path)}\n".encode())
    return found.hexdigest()[:12]


def released(config: str, root: Path = PROJECT_ROOT) -> str:
    """The YAML of a config, for the code in that folder."""
    read = yaml.safe_load(config)
    for application in read["applications"]:
        application.setdefault("args", {})["release"] = digest(root)
    text: str = yaml.safe_dump(read, sort_keys=False)
    return text


if __name__ == "__main__":
    sys.stdout.write(released(Path(sys.argv[1]).read_text(encoding="utf-8")))

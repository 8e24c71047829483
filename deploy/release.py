"""Add a digest of the code to a Serve config, as the argument `release`, for `serve deploy`.

Serve rolls a config out only if it differs from the running one, and does not look at the code.
Without the digest, replicas would keep running the old code after a change of code alone.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import yaml

from prelabel.checkpoints.cards import sha256_of
from prelabel.settings.paths import PROJECT_ROOT

_CODE = (
    *("serve_app.py", "deployments/**/*.py", "jobs/**/*.py", "requirements/serve.txt"),
    *("prelabel/**/*.py", "prelabel/**/*.c", "prelabel/**/*.yaml"),
)


def digest(root: Path) -> str:
    """Return 12 hex digits that change with the code's file names, contents or requirements."""
    sha256 = hashlib.sha256()
    for path in sorted({path for pattern in _CODE for path in root.glob(pattern)}):
        sha256.update(f"{path.relative_to(root).as_posix()} {sha256_of(path)}\n".encode())
    return sha256.hexdigest()[:12]


def with_release(config: str, root: Path = PROJECT_ROOT) -> str:
    """Return a Serve config (YAML) with the digest of the code in a folder."""
    parsed = yaml.safe_load(config)
    for application in parsed["applications"]:
        application.setdefault("args", {})["release"] = digest(root)
    text: str = yaml.safe_dump(parsed, sort_keys=False)
    return text


if __name__ == "__main__":
    sys.stdout.write(with_release(Path(sys.argv[1]).read_text(encoding="utf-8")))

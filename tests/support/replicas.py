"""The replica processes of the Ray that the test session started."""

import os
from pathlib import Path


def replicas() -> dict[Path, str]:
    """Return folders in /proc of the replicas of this session's Ray, with their deployments."""
    fathers = {}
    names = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().decode()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        fathers[int(folder.name)] = int(fields[1])
        if command.startswith("ray::ServeReplica:prelabel:"):
            title = command.split(":")[4].rstrip("\0")
            names[int(folder.name)] = title.partition(".")[0]  # behind it stands what it does now
    ours = {}
    for pid, name in names.items():
        ancestor = pid
        while ancestor in fathers and ancestor != os.getpid():
            ancestor = fathers[ancestor]
        if ancestor == os.getpid():
            ours[Path(f"/proc/{pid}")] = name
    return ours

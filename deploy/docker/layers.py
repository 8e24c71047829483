"""Print the sizes of an image's layers.

`buildah inspect --type image IMAGE | python layers.py STORAGE [KNOWN]`. KNOWN is a file of layer
digests: layers in it are left out, and the file is rewritten with the digests of this image.
"""

import json
import sys
from pathlib import Path

Layer = tuple[str, int, str]


def main(storage: Path, known: Path | None) -> None:
    """Print one line per layer, and the sum."""
    layers = layers_of(json.load(sys.stdin)["OCIv1"], storage)
    old = set(known.read_text().split()) if known is not None and known.exists() else set()
    for digest, size, made_by in layers:
        if digest not in old:
            sys.stdout.write(f"{size / 1e6:10.1f} MB  {made_by}\n")
    total = sum(size for digest, size, _ in layers if digest not in old)
    sys.stdout.write(f"{total / 1e6:10.1f} MB  {'new' if old else 'in all'}\n")
    if known is not None:
        known.write_text("\n".join(digest for digest, _, _ in layers))


def layers_of(config: dict[str, dict[str, list[str]]], storage: Path) -> list[Layer]:
    """Return digest, unpacked size in bytes and the Dockerfile instruction of each layer."""
    (index,) = storage.glob("*-layers/layers.json")
    known = json.loads(index.read_text())  # entries of containers have no digest
    sizes = {each["diff-digest"]: each["diff-size"] for each in known if "diff-digest" in each}
    history = [each for each in config["history"] if not each.get("empty_layer")]
    return [
        (digest, sizes[digest], entry.get("created_by", "")[:90].strip())
        for digest, entry in zip(config["rootfs"]["diff_ids"], history, strict=True)
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)

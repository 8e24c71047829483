"""Let PyTorch's CUDA build load where NVIDIA's libraries are left out.

`python standins.py SITE_PACKAGES`, in the build of the image for CPUs; needs gcc. The wheel on the
package index refuses to load unless every library that it was linked to is there: gigabytes, of
which a CPU never runs a line. This makes one small library in their place, under all their names,
with the symbols that PyTorch asks for. Whoever calls one is told, and ended: it happens only where
PyTorch sees a GPU, and the image for CPUs lets it see none.
"""

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

NAME = "libcuda-standin.so"
_DRIVER = "libcuda.so"
_MISSING = re.compile(r"(lib(?:cu|nccl|nv)\S+) => not found")
_SYMBOL = re.compile(r" ([A-Za-z]) ((?:cu|nccl|nv)\w+)(?:@+(\S+))?$", re.MULTILINE)
_BODY = """
#include <stdio.h>
#include <stdlib.h>
static void stand_in(void) {
    fputs("This image is for CPUs and has no CUDA. Build it with DEVICE=gpu.\\n", stderr);
    abort();
}
"""


def main(site_packages: Path) -> None:
    """Put the library into torch/lib, with a link for each that is missing."""
    target = site_packages / "torch/lib"
    present = {path.name for path in site_packages.glob("nvidia/*/lib/*")}
    missing, symbols = wanted_by(sorted(target.glob("*.so")), present)
    if missing:
        build(symbols, target / NAME)
    for name in sorted(missing):
        (target / name).symlink_to(NAME)
    sys.stdout.write(f"{len(missing)} libraries and their {len(symbols)} symbols stood in for\n")


def wanted_by(libraries: list[Path], present: set[str]) -> tuple[set[str], dict[str, str]]:
    """Names of NVIDIA's libraries that are missing; symbol -> its version, which may be empty."""
    missing: set[str] = set()
    wanted: dict[str, str] = {}
    defined: set[str] = set()
    for library in libraries:
        needed = told_by("ldd", str(library))
        # What needs the driver is loaded where there is a GPU, and the driver has no stand-in:
        # programs look for it to learn whether there is one.
        if _DRIVER in needed:
            continue
        missing |= set(_MISSING.findall(needed))
        for kind, symbol, version in _SYMBOL.findall(
            told_by("nm", "-D", "--with-symbol-versions", str(library))
        ):
            if kind != "U":
                defined.add(symbol)
            elif version not in present:
                wanted[symbol] = version
    for symbol in defined:
        wanted.pop(symbol, None)
    return missing - present, wanted


def told_by(*command: str) -> str:
    """Output of a command."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603


def build(symbols: dict[str, str], target: Path) -> None:
    """Compile a library with these symbols, all of which are one function."""
    versions = defaultdict(list)
    for symbol, version in sorted(symbols.items()):
        if version:
            versions[version].append(symbol)
    script = "".join(
        f"{version} {{ global: {' '.join(f'{each};' for each in names)} }};\n"
        for version, names in versions.items()
    )
    aliases = "".join(
        f'void {each}(void) __attribute__((alias("stand_in")));\n' for each in sorted(symbols)
    )
    with tempfile.TemporaryDirectory() as folder:
        source, map_file = Path(folder, "standin.c"), Path(folder, "standin.map")
        source.write_text(_BODY + aliases)
        map_file.write_text(script)
        options = ["-shared", "-fPIC", "-O1"]
        if versions:
            options.append(f"-Wl,--version-script={map_file}")
        command = ["gcc", *options, "-o", str(target), str(source)]
        subprocess.run(command, check=True)  # noqa: S603


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Replace NVIDIA's libraries by one stub library, so that PyTorch's CUDA build loads without them.

`python standins.py SITE_PACKAGES` runs in the build of the CPU image, and in `make serve` on a
machine without a GPU. It needs gcc. The wheel on
the package index does not load unless all libraries that it is linked against are present:
gigabytes of code that never runs on a CPU. The stub has the names of all these libraries and the
symbols that PyTorch imports from them. A call of a stub function prints an error and aborts the
process; PyTorch calls one only if it sees a GPU.
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
    fputs("CUDA is not installed here. Build the image with DEVICE=gpu; in a checkout, call "
          "`make DEVICE=gpu serve`.\\n", stderr);
    abort();
}
"""


def main(site_packages: Path) -> None:
    """Build the stub library in torch/lib, with a symbolic link for each missing library."""
    target = site_packages / "torch/lib"
    present = {path.name for path in site_packages.glob("nvidia/*/lib/*")}
    missing, symbols = missing_from(sorted(target.glob("*.so")), present)
    if missing:
        build(symbols, target / NAME)
    for name in sorted(missing):
        (target / name).symlink_to(NAME)
    sys.stdout.write(f"{len(missing)} libraries and their {len(symbols)} symbols stood in for\n")


def missing_from(libraries: list[Path], present: set[str]) -> tuple[set[str], dict[str, str]]:
    """Return the missing NVIDIA libraries, and their symbols with the version (may be empty)."""
    missing: set[str] = set()
    undefined: dict[str, str] = {}
    defined: set[str] = set()
    for library in libraries:
        needed = output_of("ldd", str(library))
        # Libraries that need the driver are loaded on GPU machines only. The driver gets no stub,
        # because programs detect a GPU by its presence.
        if _DRIVER in needed:
            continue
        missing |= set(_MISSING.findall(needed))
        for kind, symbol, version in _SYMBOL.findall(
            output_of("nm", "-D", "--with-symbol-versions", str(library))
        ):
            if kind != "U":
                defined.add(symbol)
            elif version not in present:
                undefined[symbol] = version
    for symbol in defined:
        undefined.pop(symbol, None)
    return missing - present, undefined


def output_of(*command: str) -> str:
    """Run a command and return its standard output."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603


def build(symbols: dict[str, str], target: Path) -> None:
    """Compile a library in which all symbols are aliases of one function."""
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

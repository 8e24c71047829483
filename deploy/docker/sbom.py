"""Write the image's software bill of materials: Python packages, Debian packages, the project.

`python sbom.py FOLDER` prints CycloneDX JSON. The folder holds python.cdx.json (by cyclonedx-py),
the base image's os-release, dpkg's status file, and the project's __init__.py.
"""

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

Component = dict[str, Any]


def main(folder: Path) -> None:
    """Print the bill of materials; exit with an error message if it is not valid CycloneDX."""
    bom = json.loads((folder / "python.cdx.json").read_text())
    bom["components"] += [
        component("python", platform.python_version(), "pkg:generic/python"),
        *debian_components((folder / "status").read_text(), (folder / "os-release").read_text()),
    ]
    bom["metadata"]["component"] = project((folder / "__init__.py").read_text())
    text = json.dumps(bom, indent=1) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"The bill of materials is not valid CycloneDX: {error}")
    sys.stdout.write(text)


def debian_components(status: str, os_release: str) -> list[Component]:
    """Return the packages that dpkg reports as installed."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', os_release, re.MULTILINE))
    distribution = f"{release['ID']}-{release['VERSION_ID']}"
    packages = [dict(re.findall(r"^([\w-]+): (.*)$", each, re.M)) for each in status.split("\n\n")]
    return [
        component(
            package["Package"],
            package["Version"],
            f"pkg:deb/{release['ID']}/{quote(package['Package'])}",
            f"?arch={package['Architecture']}&distro={distribution}",
        )
        for package in packages
        if package.get("Status", "").endswith(" installed")
    ]


def component(name: str, version: str, address: str, qualifiers: str = "") -> Component:
    """Return the component of one package, identified by its package URL."""
    purl = f"{address}@{quote(version, safe='')}{qualifiers}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def project(source: str) -> Component:
    """Return the component of this project, which is not installed when the bill is written."""
    (version,) = re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE)
    return {
        "type": "application",
        "bom-ref": f"prelabel=={version}",
        "name": "prelabel",
        "version": version,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))

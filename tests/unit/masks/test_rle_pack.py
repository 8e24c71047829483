"""The brush's code against the JavaScript library that Label Studio's page uses."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from prelabel.masks.rle import decode_rle, encode_rle
from prelabel.masks.runs import runs_of_mask
from prelabel.types import Masks
from tests.support.masks import soft_noise

# Reads a list of [base64 of a code, number of values]; writes for each the decoded values, and the
# code that the library makes of them, both in base64.
SCRIPT = """
const { decode, encode } = require("@thi.ng/rle-pack");
const codes = JSON.parse(require("fs").readFileSync(0, "utf-8"));
const base64 = (bytes) => Buffer.from(bytes).toString("base64");
console.log(JSON.stringify(codes.map((code) => {
  const values = decode(new Uint8Array(Buffer.from(code, "base64")));
  return [base64(values), base64(encode(values, values.length))];
})));
"""


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which node finds rle-pack, fetched by npm and checked against its hash."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("rle_pack")
    for entry in yaml.safe_load(Path(__file__).with_name("rle_pack.yaml").read_text()):
        target = folder / entry["package"].rpartition("@")[0].replace("/", "_")
        target.mkdir()
        command = ["npm", "pack", "--silent", "--pack-destination", str(target), entry["package"]]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        [archive] = target.glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        assert f"sha512-{digest}" == entry["integrity"], entry["package"]
        with tarfile.open(archive) as content:
            content.extractall(target, filter="data")
        installed = folder / "node_modules" / entry["package"].rpartition("@")[0]
        installed.parent.mkdir(parents=True, exist_ok=True)
        (target / "package").rename(installed)
    return folder


@pytest.mark.slow
def test_the_page_reads_and_writes_the_same_masks(node_folder: Path) -> None:
    random = np.random.default_rng(6)
    masks: list[Masks] = [np.zeros((4, 5), dtype=bool), np.ones((300, 200), dtype=bool)]
    for _ in range(150):
        height, width = random.integers(1, 150, 2).tolist()
        masks.append(soft_noise(random, width, height, int(random.integers(2, 20))) > 0.2)
        masks.append(random.random((height, width)) < random.random())
    codes = [
        encode_rle(runs_of_mask(mask, (0, 0), (mask.shape[1], mask.shape[0])), mask.size)
        for mask in masks
    ]
    done = subprocess.run(
        ["node", "-e", SCRIPT],
        input=json.dumps([base64.b64encode(code).decode() for code in codes]),
        cwd=node_folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answers = json.loads(done.stdout)
    for mask, code, answer in zip(masks, codes, answers, strict=True):
        values, own_code = (base64.b64decode(text) for text in answer)
        expected = np.repeat(mask.ravel() * np.uint8(255), 4)
        np.testing.assert_array_equal(np.frombuffer(values, np.uint8), expected)
        np.testing.assert_array_equal(decode_rle(own_code), expected)
        assert len(code) <= len(own_code)

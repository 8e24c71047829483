"""SAM 2.1 tiny in full size, with random weights, behind the service and beside the demo model."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import Sam2Config, Sam2Model

from tests.support.processes import free_port
from tests.support.result_entries import typed
from tests.support.scenes import SCENE
from tests.support.serve_process import serving, shipped_config
from tests.support.service_client import Service

CONFIG = """<View><TextArea name="prompt" toName="image"/><Image name="image" value="$image"/>
<RectangleLabels name="label" toName="image"><Label value="red circle"/></RectangleLabels>
<BrushLabels name="mask" toName="image"><Label value="red circle"/></BrushLabels></View>"""


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of a checkpoint of full size; the default config is that of SAM 2.1 tiny."""
    folder = tmp_path_factory.mktemp("sam2")
    torch.manual_seed(0)
    Sam2Model(Sam2Config()).save_pretrained(folder)
    path = folder / "sam2-random.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "sam2-random",
                "title": "SAM 2.1 tiny with random weights",
                "engine": "segment_anything",
                "source": "local",
                "files": [{"path": "model.safetensors"}, {"path": "config.json"}],
                "weights": "model.safetensors",
                "licence": "none",
            }
        )
    )
    return path


@pytest.mark.slow
def test_it_segments_boxes_and_clicks_and_its_version_is_its_own(card: Path) -> None:
    config = shipped_config()
    config["http_options"] = {"host": "127.0.0.1", "port": free_port()}
    application = config["applications"][0]
    application["args"] |= {
        "model": {"name": "demo", "segmenter": str(card)},
        "prompts": {"file": ""},
        "masks": {"min_island_px": 0},
    }
    with serving(config):
        service = Service(f"http://127.0.0.1:{config['http_options']['port']}")
        service.session.trust_env = False
        health = service.get("/health").json()
        assert health["segmenter"]["name"] == "sam2-random"
        [entry] = service.predict(SCENE, context=[typed("red circle")], config=CONFIG)
        assert entry["result"][0]["type"] == "rectanglelabels"
        click = {
            "type": "keypointlabels",
            "to_name": "image",
            "value": {"x": 22, "y": 29, "keypointlabels": ["red circle"]},
        }
        [clicked] = service.predict(SCENE, context=[click], config=CONFIG)
        assert "error" not in clicked, json.dumps(clicked)
        brushes = [r for r in (*entry["result"], *clicked["result"]) if "rle" in r["value"]]
        assert brushes
        assert all(0 <= brush["meta"]["mask_quality"] <= 1 for brush in brushes)

from pathlib import Path
from typing import Any

import pytest

from prelabel.checkpoints.cards import (
    ModelCard,
    load_card,
    load_segmenter_card,
    model_folder,
)
from prelabel.checkpoints.version import model_version
from prelabel.settings import AppSettings

DEMO = load_card("demo")
FOLDER = model_folder(DEMO, "models")


SEGMENTER = load_segmenter_card("demo-segmenter")


def version(**settings: bool | float | str) -> str:
    return model_version(DEMO, FOLDER, AppSettings(**settings))


def test_the_version_begins_with_the_model_s_name_and_stays() -> None:
    assert version().startswith("demo-")
    assert version() == version()


@pytest.mark.parametrize(
    "change",
    [
        {"detection": {"box_threshold": 0.31}},
        {"detection": {"text_threshold": 0.0}},
        {"detection": {"max_boxes": 5}},
        {"detection": {"nms_iou_threshold": 0.5}},
        {"prompts": {"unknown_phrases": "drop"}},
        {"review": {"prediction_score": "uncertainty"}},
        {"review": {"second_look": True}},
    ],
)
def test_a_setting_that_changes_predictions_changes_it(change: dict[str, Any]) -> None:
    assert version(**change) != version()


@pytest.mark.parametrize(
    "change",
    [
        {"log_level": "DEBUG"},
        {"images": {"fetch_timeout_s": 3}},
        {"images": {"proxy_resolves_names": True}},
    ],
)
def test_a_setting_that_does_not_change_predictions_does_not(change: dict[str, Any]) -> None:
    assert version(**change) == version()


# From before the settings were grouped. Another version makes Label Studio ask for all predictions
# again, so it may change with the demo model and with _RESULTS_REVISION only.
VERSION_BEFORE_GROUPS = "demo-4596689a"


def test_the_groups_of_settings_have_not_changed_the_version() -> None:
    assert version() == VERSION_BEFORE_GROUPS


def test_the_settings_of_a_review_with_their_defaults_have_not_changed_the_version() -> None:
    review: dict[str, Any] = {"prediction_score": "confidence", "second_look": False}
    assert version(review=review) == VERSION_BEFORE_GROUPS  # type: ignore[arg-type]


def test_masks_change_it_only_where_a_segmenter_draws_them() -> None:
    def with_masks(**settings: Any) -> str:
        return model_version(DEMO, FOLDER, AppSettings(**settings), SEGMENTER)

    assert with_masks() != version()
    assert with_masks(masks={"box_margin": 0.2}) != with_masks()
    assert version(masks={"box_margin": 0.2}) == version()  # type: ignore[arg-type]
    assert with_masks(model={"segmenter": "demo-segmenter"}) == with_masks()
    other = SEGMENTER.model_copy(update={"name": "other", "folder": FOLDER})
    assert model_version(DEMO, FOLDER, AppSettings(), other) != with_masks()


def test_new_weights_of_a_card_without_hashes_change_it(tmp_path: Path) -> None:
    card = ModelCard.model_validate(
        DEMO.model_dump()
        | {"source": "local", "files": [{"path": "w.pth"}], "weights": "w.pth", "folder": tmp_path}
    )
    (tmp_path / "w.pth").write_bytes(b"one")
    before = model_version(card, tmp_path, AppSettings())
    (tmp_path / "w.pth").write_bytes(b"two")
    assert model_version(card, tmp_path, AppSettings()) != before

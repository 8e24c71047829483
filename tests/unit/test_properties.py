"""Properties that hold for any labels, any boxes and any picture."""

import string
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prelabel.boxes import px_to_pct
from prelabel.checkpoints.cards import load_card, model_folder
from prelabel.detection.suppression import Suppression
from prelabel.engines.tokenizer import CaptionTokenizer
from prelabel.errors import PromptError
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.predictions import to_regions
from prelabel.labelstudio.protocol import Task
from prelabel.phrases.captions import can_be_read, normalise_phrase
from prelabel.phrases.plain_words import to_words
from prelabel.phrases.vocabulary import shipped_vocabulary
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.settings import AppSettings
from prelabel.types import Detections, LookPlan, ProjectPrompts, Target, Thresholds

reads = shipped_vocabulary().reads

MOST_TOKENS = 256
sizes = st.integers(1, 20_000)
edges = st.floats(-1e5, 1e5, width=32)
letters = string.ascii_letters + string.digits + " .?,;:-'\"&<>/éßñЖ猫🙂́"
labels = st.text(letters, min_size=1, max_size=30).filter(lambda text: text.strip() == text)
words = st.text(string.ascii_letters + " -'é", min_size=1, max_size=40).filter(can_be_read)


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    card = load_card("demo")
    return CaptionTokenizer.from_folder(model_folder(card, "models"), MOST_TOKENS)


@given(
    width=sizes,
    height=sizes,
    boxes=st.lists(st.tuples(edges, edges, edges, edges), max_size=8),
    iou=st.floats(0, 1),
    min_box_px=st.floats(0, 50),
)
def test_no_region_leaves_the_picture_or_is_empty(
    width: int, height: int, boxes: Any, iou: float, min_box_px: float
) -> None:
    ordered = [
        (min(x, right), min(y, bottom), max(x, right), max(y, bottom))
        for x, y, right, bottom in boxes
    ]
    plan = LookPlan("", None, ("a",), (Target("l", "i", "A", 0.0),), Thresholds(0, 0))
    found = Detections(
        np.array(ordered, np.float32).reshape(-1, 4),
        np.linspace(1, 0, len(boxes), dtype=np.float32),
        np.zeros(len(boxes), np.int64),
        (width, height),
    )
    regions = to_regions(plan, found, Suppression(iou, False, 100, min_box_px))
    assert len(regions) <= len(boxes)
    for region in regions:
        value = region["value"]
        assert 0 <= value["x"] <= 100
        assert 0 <= value["y"] <= 100
        assert value["width"] >= 0
        assert value["height"] >= 0
        assert value["x"] + value["width"] <= 100 + 1e-6
        assert value["y"] + value["height"] <= 100 + 1e-6
        assert value["width"] * width / 100 >= min_box_px - 0.02 - width * 1e-6


@given(width=sizes, height=sizes, corners=st.tuples(*[st.floats(0, 1)] * 4))
def test_percent_and_pixels_are_the_same_box(width: int, height: int, corners: Any) -> None:
    x, y, w, h = corners
    box = np.array([[x * width, y * height, (x + (1 - x) * w) * width, (y + (1 - y) * h) * height]])
    pct = px_to_pct(box, (width, height))
    assert ((pct >= 0) & (pct <= 100 + 1e-9)).all()
    back = pct / 100 * np.array([width, height, width, height])
    np.testing.assert_allclose(back, box, rtol=1e-12, atol=1e-9)


@given(st.lists(labels, min_size=1, max_size=30), st.booleans())
def test_every_label_that_boxes_can_get_is_in_the_config(values: list[str], separate: bool) -> None:
    tags = "".join(f"<Label value={quoteattr(value)}/>" for value in values)
    control = (
        f'<Labels name="l" toName="i">{tags}</Labels><Rectangle name="r" toName="i"/>'
        if separate
        else f'<RectangleLabels name="l" toName="i">{tags}</RectangleLabels>'
    )
    xml = f'<View><Image name="i" value="$image"/>{control}</View>'
    config = parse_labeling_config(xml, 100)
    task = Task.model_validate({"data": {"image": "a.jpg"}})
    sources = PromptSources.of(task, None, ProjectPrompts(), config)
    try:
        [look] = plan_task(task, config, sources, AppSettings()).looks
    except PromptError:
        assert not any(reads(to_words(value)) for value in values)
        return
    assert {target.label for target in look.targets if target} <= set(values)
    captions = [normalise_phrase(phrase) for phrase in look.phrases]
    assert len(set(captions)) == len(captions)
    wanted = map(to_words, values)
    assert set(captions) == {normalise_phrase(words) for words in wanted if reads(words)}


@pytest.mark.slow
@settings(max_examples=1000)
@given(st.lists(words, min_size=1, max_size=60, unique_by=normalise_phrase))
def test_captions_never_merge_labels_nor_cut_a_word(
    tokenizer: CaptionTokenizer, phrases: list[str]
) -> None:
    try:
        captions = tokenizer(phrases)
    except PromptError:
        assume(False)
    assert sum(len(caption.spans) for caption in captions) == len(phrases)
    for caption in captions:
        assert len(caption.ids) <= MOST_TOKENS
        covered = [i for start, end in caption.spans for i in range(start, end)]
        assert len(set(covered)) == len(covered)
        # Between two phrases stands a boundary, and every token but these belongs to a phrase.
        boundaries = [i for i in range(len(caption.ids)) if i not in covered]
        assert all(caption.ids[i] in tokenizer.boundary_ids for i in boundaries)
        for number, (start, end) in enumerate(caption.spans):
            [alone] = tokenizer([phrases[caption.first_phrase + number]])
            assert caption.ids[start:end] == alone.ids[1:-2]

"""Thresholds are written into the text of a labeling config, and nothing else changes."""

from __future__ import annotations

import pytest

from prelabel.errors import LabelingConfigError
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.threshold_edit import set_thresholds

CONFIG = """<?xml version="1.0"?>
<View>
  <!-- <Label value="cat"/> is not a tag here -->
  <Image   name='image' value="$image"
           zoom="true" />
  <RectangleLabels name="label" toName="image" model_score_threshold="0.3">
    <Label value="cat" background='#ff0000' model_score_threshold = '0.25' hotkey="1"/>
    <Label value="a &lt;b&gt; &quot;c&quot; &amp; d > e" alias="odd"></Label>
    <Label value="Straße 猫"
           background="blue"
    />
    <Label value="$field"/>
  </RectangleLabels>
  <BrushLabels name="mask" toName="image"><Label value="cat"/></BrushLabels>
  <Choices name="c" toName="image"><Choice value="cat"/></Choices>
  <Labels name="text" toName="none"><Label value="odd"/></Labels>
</View>
"""


def test_the_attribute_alone_changes() -> None:
    edited = set_thresholds(CONFIG, {"cat": 0.5, "odd": 0.07, "Straße 猫": 1.0})
    expected = (
        CONFIG.replace("model_score_threshold = '0.25'", 'model_score_threshold = "0.5"')
        .replace('alias="odd">', 'alias="odd" model_score_threshold="0.07">')
        .replace('background="blue"\n', 'background="blue" model_score_threshold="1"\n')
        .replace(
            '<BrushLabels name="mask" toName="image"><Label value="cat"/>',
            '<BrushLabels name="mask" toName="image">'
            '<Label value="cat" model_score_threshold="0.5"/>',
        )
        .replace('<Label value="odd"/>', '<Label value="odd" model_score_threshold="0.07"/>')
    )
    assert edited == expected
    [boxes, *_] = parse_labeling_config(edited, 100).controls
    found = {label.value: label.score_threshold for label in boxes.labels}
    assert found["cat"] == 0.5
    assert found["odd"] == 0.07
    assert set_thresholds(edited, {}) == edited


@pytest.mark.parametrize(
    ("xml", "label", "sentence"),
    [
        (CONFIG, "dog", "no <Label> tag for 'dog'"),
        ("<View><Labels name='a' toName='b' value='$list'/></View>", "cat", "come from the tasks"),
        ("<View>", "cat", "not well-formed"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View/>', "cat", "document type"),
    ],
)
def test_what_cannot_be_edited_is_said(xml: str, label: str, sentence: str) -> None:
    with pytest.raises(LabelingConfigError, match=sentence):
        set_thresholds(xml, {label: 0.5})

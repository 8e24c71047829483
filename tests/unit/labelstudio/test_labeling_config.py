from typing import Any

import pytest

from prelabel.errors import LabelingConfigError, RequestError
from prelabel.labelstudio.labeling_config import (
    ImageObject,
    LabelingConfig,
    parse_labeling_config,
)
from prelabel.labelstudio.prompt_tags import PromptArea

TUTORIAL = """
<View>
  <Style>.prompt::before { content: ' loading...'; color: #808080; }</Style>
  <View className="prompt">
    <Header value="Enter a prompt to detect objects in the image:"/>
    <TextArea name="prompt" toName="image" editable="true" rows="2" maxSubmissions="1"/>
  </View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="cats" background="yellow"/><Label value="house" background="blue"/>
  </RectangleLabels>
</View>"""


def parse(xml: str, max_labels: int = 100) -> LabelingConfig:
    return parse_labeling_config(xml, max_labels)


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


IMAGE = '<Image name="image" value="$image"/>'


def rectangles(
    labels: str, name: str = "label", to_name: str = "image", attributes: str = ""
) -> str:
    return (
        f'<RectangleLabels name="{name}" toName="{to_name}" {attributes}>{labels}</RectangleLabels>'
    )


def called(config: LabelingConfig, phrase: str) -> dict[str, Any]:
    """By picture: the control and the value of the label that the phrase means."""
    found = config.names.find(phrase).targets.items()
    return {
        image: (target.control.from_name, target.label and target.label.value)
        for image, target in found
    }


def test_the_tutorial_s_config_gives_its_labels_image_and_prompt() -> None:
    config = parse(TUTORIAL)
    [control] = config.controls
    assert (control.from_name, control.to_name) == ("label", "image")
    assert [label.value for label in control.labels] == ["cats", "house"]
    assert config.images == (ImageObject("image", "$image", is_list=False),)
    assert config.prompt_controls.prompt == "prompt"


def test_tags_without_regions_are_left_alone_and_boxes_come_before_masks() -> None:
    brush = '<BrushLabels name="mask" toName="image"><Label value="sky"/></BrushLabels>'
    choices = '<Choices name="c" toName="image"><Choice value="day"/></Choices>'
    config = parse(view(IMAGE, brush, rectangles('<Label value="cat"/>'), choices))
    assert [(c.from_name, dict(c.shapes)) for c in config.controls] == [
        ("label", {"rectangle": None}),
        ("mask", {"brush": None}),
    ]


def test_labels_label_what_any_tag_draws_on_their_picture() -> None:
    tags = '<Brush name="b" toName="image"/><Rectangle name="r" toName="image"/>'
    labels = '<Labels name="l" toName="image"><Label value="cat"/></Labels>'
    [control] = parse(view(IMAGE, tags, labels)).controls
    assert dict(control.shapes) == {"brush": "b", "rectangle": "r"}


def test_without_a_segmenter_only_boxes_are_left_and_masks_alone_are_refused() -> None:
    brush = '<BrushLabels name="mask" toName="image"><Label value="sky"/></BrushLabels>'
    both = view(IMAGE, brush, rectangles('<Label value="cat"/>'))
    config = parse_labeling_config(both, 10, masks=False)
    assert [control.from_name for control in config.controls] == ["label"]
    assert config.lacks_segmenter
    with pytest.raises(LabelingConfigError, match="draws masks only, and the service has no seg"):
        parse_labeling_config(view(IMAGE, brush), 10, masks=False)


def test_two_images_get_the_controls_that_name_them() -> None:
    config = parse(
        view(
            '<Image name="a" value="$left"/><Image name="b" value="$right"/>',
            rectangles('<Label value="cat"/>', "la", "a"),
            rectangles('<Label value="dog"/>', "lb", "b"),
        )
    )
    names = {i.name: [c.from_name for c in config.controls_of(i)] for i in config.images}
    assert names == {"a": ["la"], "b": ["lb"]}


def test_a_control_for_two_images_counts_for_both() -> None:
    config = parse(
        view(
            '<Image name="a" value="$left"/><Image name="b" value="$right"/>',
            rectangles('<Label value="cat"/>', "l", "a,b"),
        )
    )
    assert [c.to_name for c in config.controls] == ["a", "b"]


@pytest.mark.parametrize("spelling", ["Car", "car", " CAR ", "truck", "Pickup  Truck"])
def test_a_label_answers_to_its_value_and_predicted_values_in_any_case(spelling: str) -> None:
    label = '<Label value="Car" predicted_values="truck, pickup truck"/>'
    config = parse(view(IMAGE, rectangles(label)))
    assert called(config, spelling) == {"image": ("label", "Car")}


def test_predicted_values_are_looked_for_in_place_of_the_value() -> None:
    label = '<Label value="Vehicle" predicted_values="car, truck"/>'
    [control] = parse(view(IMAGE, rectangles(label))).controls
    assert control.labels[0].phrases == ("car", "truck")


def test_a_label_s_name_is_not_found_inside_a_longer_word() -> None:
    assert called(parse(view(IMAGE, rectangles('<Label value="car"/>'))), "carpet") == {}


def test_an_alias_is_written_and_the_value_looked_for() -> None:
    config = parse(view(IMAGE, rectangles('<Label value="cat" alias="C1"/>')))
    [control] = config.controls
    assert (control.labels[0].value, control.labels[0].phrases) == ("C1", ("cat",))
    assert called(config, "cat") == {"image": ("label", "C1")}


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("0.5", 0.5), ("1", 1.0)])
def test_model_score_threshold_is_read(text: str, value: float) -> None:
    xml = view(
        IMAGE, rectangles('<Label value="a"/>', attributes=f'model_score_threshold="{text}"')
    )
    assert parse(xml).controls[0].score_threshold == value


@pytest.mark.parametrize("text", ["high", "1.1", "-0.1", "nan", "0,5"])
def test_a_wrong_model_score_threshold_is_named(text: str) -> None:
    xml = view(
        IMAGE, rectangles('<Label value="a"/>', attributes=f'model_score_threshold="{text}"')
    )
    with pytest.raises(LabelingConfigError, match="model_score_threshold"):
        parse(xml)


def test_the_text_area_called_prompt_wins_and_per_region_ones_do_not_count() -> None:
    areas = (
        '<TextArea name="note" toName="image" perRegion="true"/>'
        '<TextArea name="caption" toName="image"/>'
    )
    labels = rectangles('<Label value="a"/>')
    assert parse(view(IMAGE, areas, labels)).prompt_controls.prompt == "caption"
    prompt = '<TextArea name="prompt" toName="image"/>'
    assert parse(view(IMAGE, areas, prompt, labels)).prompt_controls.prompt == "prompt"


@pytest.mark.parametrize(
    ("xml", "sentence"),
    [
        ("", "not well-formed XML"),
        ("<View>", "not well-formed XML"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View>&a;</View>', "entities"),
        ("<View>" * 200 + "</View>" * 200, "nested deeper"),
        ("<View>" + " " * 1_000_000 + "</View>", "longer than"),
        (
            view(IMAGE, rectangles("".join(f'<Label value="{i}"/>' for i in range(101)))),
            "more than 100 labels",
        ),
    ],
)
def test_an_unusable_config_says_what_to_do(xml: str, sentence: str) -> None:
    with pytest.raises(LabelingConfigError, match=sentence):
        parse(xml)


@pytest.mark.parametrize(
    ("value", "task", "uris"),
    [
        ("$image", {"image": "a.jpg"}, ("a.jpg",)),
        ("$meta.url", {"meta": {"url": "a.jpg"}}, ("a.jpg",)),
        ("$meta.url", {"meta.url": "a.jpg"}, ("a.jpg",)),
        ("https://example.org/fixed.jpg", {}, ("https://example.org/fixed.jpg",)),
        ("$image", {"image": " a.jpg\n"}, ("a.jpg",)),
    ],
)
def test_the_picture_s_address_is_found(value: str, task: dict[str, Any], uris: tuple[str]) -> None:
    assert ImageObject("image", value, is_list=False).uris(task) == uris


def test_a_list_of_pictures_gives_each_of_them() -> None:
    assert ImageObject("i", "$pages", is_list=True).uris({"pages": ["a", "b"]}) == ("a", "b")


@pytest.mark.parametrize("task", [{}, {"image": None}, {"image": ""}, {"image": []}])
def test_a_task_may_leave_out_a_picture(task: dict[str, Any]) -> None:
    assert ImageObject("image", "$image", is_list=True).uris(task) == ()


@pytest.mark.parametrize("task", [{"image": 5}, {"image": {}}, {"image": ["a.jpg"]}])
def test_what_is_no_address_says_which_field_it_stands_in(task: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"\$image"):
        ImageObject("image", "$image", is_list=False).uris(task)


def test_a_prompt_is_echoed_only_where_its_text_area_shows_afterwards() -> None:
    def area(attributes: str) -> PromptArea:
        text = f'<TextArea name="prompt" toName="image" {attributes}/>'
        found = parse(view(IMAGE, text, rectangles('<Label value="a"/>'))).prompt_area
        assert found is not None
        return found

    assert area("").repeatable
    assert area('maxSubmissions="3"').repeatable
    assert not area('maxSubmissions="1"').repeatable


def test_no_more_labels_from_a_task_than_from_a_config() -> None:
    config = parse(view(IMAGE, '<RectangleLabels name="l" toName="image" value="$l"/>'))
    data: dict[str, Any] = {"l": [{"value": str(i)} for i in range(101)]}
    with pytest.raises(LabelingConfigError, match="more than 100 labels"):
        config.for_task(data)


def pages(labels: str) -> str:
    control = rectangles(labels, "boxes_{{idx}}", "page_{{idx}}")
    image = '<Image name="page_{{idx}}" value="$pages[{{idx}}]"/>'
    return view(f'<Repeater on="$pages">{image}{control}</Repeater>')


def test_labels_are_counted_for_each_picture() -> None:
    labels = "".join(f'<Label value="{n}"/>' for n in range(20))
    config = parse(pages(labels)).for_task({"pages": ["a.jpg"] * 51})
    assert len(config.controls) == 51
    names = [f"page{n}" for n in range(30)]
    images = "".join(f'<Image name="{name}" value="$image"/>' for name in names)
    config = parse(view(images, rectangles(labels, to_name=",".join(names))))
    assert len(config.controls) == 30
    with pytest.raises(LabelingConfigError, match="more than 100 labels for one picture"):
        parse(view(IMAGE, *(rectangles(labels, name=str(n)) for n in range(6))))


def test_labels_of_all_pages_together_have_a_limit_of_their_own() -> None:
    config = parse(pages(f'<Label value="cat" predicted_values="{"a," * 50}"/>'))
    with pytest.raises(LabelingConfigError, match="many pages into several tasks"):
        config.for_task({"pages": ["a.jpg"] * 1000})


def test_a_repeater_of_too_many_pages_is_not_cut_in_silence() -> None:
    config = parse(pages('<Label value="cat"/>'))
    assert len(config.for_task({"pages": ["a.jpg"] * 1000}).images) == 1000
    with pytest.raises(LabelingConfigError, match=r"more than 1000 items under '\$pages'"):
        config.for_task({"pages": ["a.jpg"] * 1001})


@pytest.mark.parametrize("threshold", [0.7, "0.7"])
def test_a_label_from_the_task_has_its_threshold_as_a_number_or_a_text(
    threshold: float | str,
) -> None:
    config = parse(view(IMAGE, rectangles("", attributes='value="$l"')))
    label: dict[str, Any] = {"value": "cat", "model_score_threshold": threshold}
    [control] = config.for_task({"l": [label]}).controls
    assert control.labels[0].score_threshold == 0.7


@pytest.mark.parametrize("threshold", [7, 10**30, float("inf"), True, [0.7], {}])
def test_a_wrong_threshold_of_a_label_from_the_task_is_named(threshold: Any) -> None:
    config = parse(view(IMAGE, rectangles("", attributes='value="$l"')))
    label: dict[str, Any] = {"value": "cat", "model_score_threshold": threshold}
    with pytest.raises(LabelingConfigError, match="model_score_threshold"):
        config.for_task({"l": [label]})

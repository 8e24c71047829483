import pytest

from prelabel.errors import LabelingConfigError, RequestError
from prelabel.labelstudio.labeling_config import ImageObject, parse_labeling_config

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


def parse(xml, max_labels=100):
    return parse_labeling_config(xml, max_labels)


def view(*tags):
    return f"<View>{''.join(tags)}</View>"


IMAGE = '<Image name="image" value="$image"/>'


def rectangles(labels, name="label", to_name="image", attributes=""):
    return (
        f'<RectangleLabels name="{name}" toName="{to_name}" {attributes}>{labels}</RectangleLabels>'
    )


def test_the_tutorial_s_config_gives_its_labels_image_and_prompt():
    config = parse(TUTORIAL)
    [control] = config.controls
    assert (control.from_name, control.to_name) == ("label", "image")
    assert [label.value for label in control.labels] == ["cats", "house"]
    assert config.images == (ImageObject("image", "$image", many=False),)
    assert config.prompt_names == ("prompt",)


def test_brush_and_other_tags_beside_are_left_alone():
    brush = '<BrushLabels name="mask" toName="image"><Label value="sky"/></BrushLabels>'
    choices = '<Choices name="c" toName="image"><Choice value="day"/></Choices>'
    config = parse(view(IMAGE, brush, rectangles('<Label value="cat"/>'), choices))
    assert [c.from_name for c in config.controls] == ["label"]


def test_two_images_get_the_controls_that_name_them():
    config = parse(
        view(
            '<Image name="a" value="$left"/><Image name="b" value="$right"/>',
            rectangles('<Label value="cat"/>', "la", "a"),
            rectangles('<Label value="dog"/>', "lb", "b"),
        )
    )
    names = {i.name: [c.from_name for c in config.controls_of(i)] for i in config.images}
    assert names == {"a": ["la"], "b": ["lb"]}


def test_a_control_for_two_images_counts_for_both():
    config = parse(
        view(
            '<Image name="a" value="$left"/><Image name="b" value="$right"/>',
            rectangles('<Label value="cat"/>', "l", "a,b"),
        )
    )
    assert [c.to_name for c in config.controls] == ["a", "b"]


@pytest.mark.parametrize("spelling", ["Car", "car", " CAR ", "truck", "Pickup  Truck"])
def test_a_label_answers_to_its_value_and_predicted_values_in_any_case(spelling):
    label = '<Label value="Car" predicted_values="truck, pickup truck"/>'
    [control] = parse(view(IMAGE, rectangles(label))).controls
    found = control.label_named(spelling)
    assert found is not None
    assert found.value == "Car"


def test_predicted_values_are_looked_for_in_place_of_the_value():
    label = '<Label value="Vehicle" predicted_values="car, truck"/>'
    [control] = parse(view(IMAGE, rectangles(label))).controls
    assert control.labels[0].phrases == ("car", "truck")


def test_a_label_s_name_is_not_found_inside_a_longer_word():
    [control] = parse(view(IMAGE, rectangles('<Label value="car"/>'))).controls
    assert control.label_named("carpet") is None


def test_an_alias_is_written_and_the_value_looked_for():
    [control] = parse(view(IMAGE, rectangles('<Label value="cat" alias="C1"/>'))).controls
    assert (control.labels[0].value, control.labels[0].phrases) == ("C1", ("cat",))
    assert control.label_named("cat") is control.labels[0]


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("0.5", 0.5), ("1", 1.0)])
def test_model_score_threshold_is_read(text, value):
    xml = view(
        IMAGE, rectangles('<Label value="a"/>', attributes=f'model_score_threshold="{text}"')
    )
    assert parse(xml).controls[0].score_threshold == value


@pytest.mark.parametrize("text", ["high", "1.1", "-0.1", "nan"])
def test_a_wrong_model_score_threshold_is_named(text):
    xml = view(
        IMAGE, rectangles('<Label value="a"/>', attributes=f'model_score_threshold="{text}"')
    )
    with pytest.raises(LabelingConfigError, match="model_score_threshold"):
        parse(xml)


def test_the_text_area_called_prompt_wins_and_per_region_ones_do_not_count():
    areas = (
        '<TextArea name="note" toName="image" perRegion="true"/>'
        '<TextArea name="caption" toName="image"/>'
    )
    labels = rectangles('<Label value="a"/>')
    assert parse(view(IMAGE, areas, labels)).prompt_names == ("caption",)
    prompt = '<TextArea name="prompt" toName="image"/>'
    assert parse(view(IMAGE, areas, prompt, labels)).prompt_names == ("prompt",)


@pytest.mark.parametrize(
    ("xml", "sentence"),
    [
        ("", "not well-formed XML"),
        ("<View>", "not well-formed XML"),
        ("<View></View>", "Add <Image name="),
        (view(IMAGE), "no RectangleLabels for an Image"),
        (view(rectangles('<Label value="a"/>')), "no RectangleLabels for an Image"),
        (view(IMAGE, rectangles("")), "no RectangleLabels for an Image"),
        (view(IMAGE, rectangles('<Label value="a"/>', to_name="text")), "no RectangleLabels"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View>&a;</View>', "entities"),
        ("<View>" * 200 + "</View>" * 200, "nested deeper"),
        ("<View>" + " " * 1_000_000 + "</View>", "longer than"),
        (view(IMAGE, rectangles('<Label value="a"/>' * 101)), "more than 100 labels"),
    ],
)
def test_an_unusable_config_says_what_to_do(xml, sentence):
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
def test_the_picture_s_address_is_found(value, task, uris):
    assert ImageObject("image", value, many=False).uris(task) == uris


def test_a_list_of_pictures_gives_each_of_them():
    assert ImageObject("i", "$pages", many=True).uris({"pages": ["a", "b"]}) == ("a", "b")


@pytest.mark.parametrize("task", [{}, {"image": None}, {"image": ""}, {"image": 5}, {"image": []}])
def test_a_task_without_address_says_which_field_it_lacks(task):
    with pytest.raises(RequestError, match=r"\$image"):
        ImageObject("image", "$image", many=False).uris(task)

from collections.abc import Sequence
from typing import Any

import pytest

from prelabel.errors import PromptError, RequestError
from prelabel.labelstudio.labeling_config import parse_labeling_config
from prelabel.labelstudio.predictions import to_prediction
from prelabel.labelstudio.protocol import Context, Task, WebhookRequest
from prelabel.prompts.planner import plan_task
from prelabel.prompts.sources import PromptSources
from prelabel.prompts.submitted import submitted_prompt
from prelabel.settings import AppSettings, PromptSettings
from prelabel.types import (
    LookPlan,
    ProjectPrompts,
    PromptEcho,
    PromptRequest,
    Target,
    TaskPlan,
    Thresholds,
)
from tests.support.result_entries import labelled_box, number, typed

CONFIG = """<View>
  <TextArea name="prompt" toName="image"/><Number name="box_threshold" toName="image"/>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="Cat"/><Label value="Car" predicted_values="car, truck"/>
  </RectangleLabels></View>"""

NOBODY = PromptRequest()
REMEMBERED = PromptRequest("car")


def whole_plan(
    context: list[dict[str, Any]] | None = None,
    drafts: Sequence[dict[str, Any]] = (),
    remembered: PromptRequest = NOBODY,
    settings: AppSettings | None = None,
    config: str = CONFIG,
) -> TaskPlan:
    parsed = parse_labeling_config(config, 100)
    task = Task.model_validate({"data": {"image": "a.jpg"}, "drafts": list(drafts)})
    typed_in = None if context is None else Context.model_validate({"result": context})
    sources = PromptSources.of(task, typed_in, ProjectPrompts(remembered), parsed)
    return plan_task(task, parsed, sources, settings or AppSettings())


def plan(*args: Any, **kwargs: Any) -> LookPlan:
    [only] = whole_plan(*args, **kwargs).looks
    return only


def labels(look: LookPlan) -> list[Any]:
    return [target and target.label for target in look.targets]


def test_without_a_prompt_the_config_s_own_labels_are_looked_for() -> None:
    look = plan()
    assert look.phrases == ("Cat", "car", "truck")
    assert labels(look) == ["Cat", "Car", "Car"]
    assert look.thresholds == Thresholds(0.3, 0.25)


def test_a_prompt_says_what_is_looked_for_and_the_config_what_is_kept() -> None:
    look = plan([typed("truck . zebra\n")])
    assert look.phrases == ("truck", "zebra")
    assert labels(look) == ["Car", None]


def test_the_number_may_come_before_the_prompt() -> None:
    look = plan([number(0.0), typed("cat"), number(0.5, "text_threshold")])
    assert look.thresholds == Thresholds(0.0, 0.5)
    assert look.phrases == ("cat",)


def test_a_smart_rectangle_takes_prompt_and_number_from_the_newest_draft() -> None:
    rectangle = {"type": "rectanglelabels", "from_name": "label", "value": {"x": 1}}
    drafts = [
        {"result": [typed("cat")], "updated_at": "2026-01-01"},
        {"result": [typed("car"), number(0.7)], "updated_at": "2026-01-02"},
    ]
    look = plan([rectangle], drafts)
    assert look.phrases == ("car",)
    assert look.thresholds.box == 0.7


def test_a_number_that_is_no_threshold_is_an_error_only_where_it_was_just_typed() -> None:
    with pytest.raises(RequestError, match="box_threshold is 4"):
        plan([typed("cat"), number(4)])
    look = plan(drafts=[{"result": [typed("cat"), number(4), number(0.5, "text_threshold")]}])
    assert look.phrases == ("cat",)
    assert look.thresholds == Thresholds(0.3, 0.5)
    event = submit(result=[typed("cat"), number(4)])
    assert submitted_prompt(event, PromptSettings()) == PromptRequest("cat")


def test_the_remembered_prompt_counts_where_nothing_newer_is_said() -> None:
    remembered = PromptRequest("car", 0.1, 0.2)
    assert plan(remembered=remembered).phrases == ("car",)
    assert plan(remembered=remembered).thresholds == Thresholds(0.1, 0.2)
    assert plan([typed("cat")], remembered=remembered).phrases == ("cat",)


def test_unknown_phrases_are_rejected_by_name_where_the_setting_says_so() -> None:
    with pytest.raises(
        PromptError, match="'zebra' is not a label of this project, which has 'Cat', 'Car'"
    ):
        plan([typed("cat . zebra")], settings=AppSettings(prompts={"unknown_phrases": "reject"}))


def test_unknown_phrases_get_the_first_label_where_the_setting_says_so() -> None:
    look = plan(
        [typed("zebra . car")], settings=AppSettings(prompts={"unknown_phrases": "first_label"})
    )
    assert labels(look) == ["Cat", "Car"]


def test_a_typed_phrase_that_is_no_label_gets_boxes_without_one() -> None:
    look = plan([typed("zebra . cat")])
    assert look.phrases == ("zebra", "cat")
    assert look.targets[0] == Target("label", "image", None, 0.3)
    assert labels(look) == [None, "Cat"]


@pytest.mark.parametrize(
    "older",
    [
        {"drafts": [{"result": [typed("zebra . car")]}]},
        {"remembered": PromptRequest("zebra . car")},
    ],
)
def test_a_phrase_of_an_older_prompt_that_is_no_label_is_left_out(older: dict[str, Any]) -> None:
    look = plan(**older)
    assert look.phrases == ("zebra", "car")
    assert look.targets[0] is None


def test_a_prompt_of_unknown_phrases_only_is_an_error_where_they_are_dropped() -> None:
    dropping = AppSettings(prompts={"unknown_phrases": "drop"})
    with pytest.raises(PromptError, match="'zebra', 'gnu' are not labels"):
        plan([typed("zebra . gnu")], settings=dropping)
    look = plan([typed("zebra . car")], settings=dropping)
    assert (look.phrases, look.targets[0]) == (("zebra", "car"), None)


def test_the_sentence_names_the_nearest_labels_and_how_to_say_which_is_meant() -> None:
    with pytest.raises(PromptError, match=r"The nearest are 'truck'.*\"truck: trunk\"") as error:
        plan(
            [typed("trunk")],
            settings=AppSettings(prompts={"unknown_phrases": "reject"}),
            config=CONFIG.replace('value="Car" predicted_values="car, truck"', 'value="truck"'),
        )
    assert str(error.value).endswith(".")


def test_phrases_that_are_one_to_the_model_are_asked_once() -> None:
    look = plan([typed("Cat . cat . CAT")])
    assert look.phrases == ("Cat",)


def test_labels_without_a_word_are_left_out() -> None:
    config = CONFIG.replace('value="Cat"', 'value="?"')
    assert plan(config=config).phrases == ("car", "truck")
    assert plan([typed("? . zebra")], config=config).phrases == ("zebra",)
    with pytest.raises(PromptError, match="no word to look for"):
        plan([typed("?")], config=config)


def test_model_score_threshold_is_weaker_than_the_annotator_and_stronger_than_the_settings() -> (
    None
):
    config = CONFIG.replace('name="label"', 'name="label" model_score_threshold="0.6"')
    assert plan(config=config).thresholds.box == 0.6
    assert plan([typed("cat"), number(0.1)], config=config).thresholds.box == 0.1


def test_a_control_with_a_higher_threshold_does_not_raise_the_others() -> None:
    config = """<View><Image name="image" value="$image"/>
      <RectangleLabels name="a" toName="image" model_score_threshold="0.8">
        <Label value="cat"/></RectangleLabels>
      <RectangleLabels name="b" toName="image"><Label value="dog"/></RectangleLabels></View>"""
    look = plan(config=config)
    assert look.thresholds.box == 0.3
    assert [target and target.min_score for target in look.targets] == [0.8, 0.3]


def test_each_picture_of_a_list_gets_a_plan_with_its_place() -> None:
    config = parse_labeling_config(CONFIG.replace('value="$image"', 'valueList="$pages"'), 100)
    task = Task.model_validate({"data": {"pages": ["a.jpg", "b.jpg"]}})
    sources = PromptSources.of(task, None, ProjectPrompts(), config)
    plans = plan_task(task, config, sources, AppSettings()).looks
    assert [(p.uri, p.item_index) for p in plans] == [("a.jpg", 0), ("b.jpg", 1)]


def submit(
    action: str = "ANNOTATION_CREATED",
    result: Sequence[dict[str, Any]] = (),
    config: str = CONFIG,
    **annotation: Any,
) -> WebhookRequest:
    return WebhookRequest.model_validate(
        {
            "action": action,
            "project": {"id": 3, "label_config": config},
            "annotation": {"result": list(result), **annotation},
        }
    )


@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "ANNOTATION_UPDATED"])
def test_a_submit_says_prompt_and_thresholds(action: str) -> None:
    event = submit(action, [number(0.2), typed("car\n")])
    assert submitted_prompt(event, PromptSettings()) == PromptRequest("car", 0.2, None)


@pytest.mark.parametrize(
    "event",
    [
        submit("ANNOTATIONS_DELETED", [typed("car")]),
        submit("START_TRAINING", [typed("car")]),
        submit(result=[typed("car")], was_cancelled=True),
        submit(result=[typed("car")], config="<View/>"),
        submit(
            result=[typed("car")],
            config=CONFIG.replace('name="prompt"', f'name="prompt" value="{"$a " * 5_000}"'),
        ),
        WebhookRequest(action="PROJECT_UPDATED"),
    ],
)
def test_other_events_say_nothing(event: WebhookRequest) -> None:
    assert submitted_prompt(event, PromptSettings()) == NOBODY


@pytest.mark.parametrize(
    ("prompt", "remembered"),
    [("blurry, please check", None), ("zebra . truck", "zebra . truck"), ("caat", None)],
)
def test_a_text_without_any_label_is_not_remembered(prompt: str, remembered: str | None) -> None:
    event = submit(result=[typed(prompt), number(0.2)])
    assert submitted_prompt(event, PromptSettings()) == PromptRequest(remembered, 0.2, None)


def echoed(text: str) -> Any:
    return to_prediction([], "v1", PromptEcho("prompt", "image", text))["result"]


def test_a_prompt_that_its_task_s_prediction_shows_is_not_submitted_anew() -> None:
    shown = {"id": 1, "result": echoed("car"), "model_version": "v1", "task": 7}
    event = submit(result=[*echoed("car"), number(0.2)], prediction=shown)
    assert submitted_prompt(event, PromptSettings()) == PromptRequest(None, 0.2)
    event = submit(result=[typed("cat")], prediction=shown)
    assert submitted_prompt(event, PromptSettings()) == PromptRequest("cat")


@pytest.mark.parametrize("odd", [None, {}, "v1", [], {"result": 1}, {"result": [{"value": 1}]}])
def test_a_prediction_of_another_form_is_overlooked(odd: Any) -> None:
    event = submit(result=[typed("car")], prediction=odd)
    assert submitted_prompt(event, PromptSettings()) == PromptRequest("car")


@pytest.mark.parametrize(
    ("origin", "remembered"),
    [
        ("prediction", None),
        ("prediction-changed", "car"),
        ("manual", "car"),
        (None, "car"),
        (7, "car"),
    ],
)
def test_a_prompt_that_was_taken_over_from_a_prediction_counts_once_it_was_changed(
    origin: int | str | None, remembered: str | None
) -> None:
    event = submit(result=[typed("car") | {"origin": origin}], prediction={})
    assert submitted_prompt(event, PromptSettings()) == PromptRequest(remembered)


def test_a_prompt_that_the_task_brought_along_is_not_remembered_for_the_project() -> None:
    config = CONFIG.replace('name="prompt"', 'name="prompt" value="$ask"')
    task = {"task": {"data": {"image": "a.jpg", "ask": "truck "}}}
    for prompt, remembered in (("truck\n", None), ("cat", "cat")):
        sent = submit(result=[typed(prompt)], config=config).model_dump() | task
        event = WebhookRequest.model_validate(sent)
        assert submitted_prompt(event, PromptSettings()) == PromptRequest(remembered)


TWO_PICTURES = """<View>
  <TextArea name="prompt" toName="a"/>
  <Image name="a" value="$left"/><Image name="b" value="$right"/>
  <RectangleLabels name="la" toName="a"><Label value="cat"/></RectangleLabels>
  <RectangleLabels name="lb" toName="b"><Label value="dog"/></RectangleLabels></View>"""


def plans_of(prompt: str, settings: AppSettings | None = None) -> tuple[Any, ...]:
    config = parse_labeling_config(TWO_PICTURES, 100)
    task = Task.model_validate({"data": {"left": "l.jpg", "right": "r.jpg"}})
    return plan_task(
        task, config, PromptSources(PromptRequest(prompt)), settings or AppSettings()
    ).looks


def test_a_prompt_looks_at_the_pictures_whose_labels_it_names() -> None:
    assert [plan.uri for plan in plans_of("dog")] == ["r.jpg"]
    assert [plan.uri for plan in plans_of("dog . cat")] == ["l.jpg", "r.jpg"]
    assert [plan.uri for plan in plans_of("zebra")] == ["l.jpg", "r.jpg"]
    with pytest.raises(PromptError, match="has 'cat', 'dog'"):
        plans_of("zebra", AppSettings(prompts={"unknown_phrases": "reject"}))


@pytest.mark.parametrize(
    ("labels_there", "prompt", "label"),
    [
        (["US", "us"], "us", "us"),
        (["us", "US"], "US", "US"),
        (["us", "Us"], "US", "us"),
        (["cat?", "Cat"], "cat", "Cat"),
        (["cat?", "Cat"], "CAT?", "cat?"),
        (["St. Straße", "cat"], "ST STRASSE", "St. Straße"),
    ],
)
def test_the_closest_label_is_meant_whichever_control_it_stands_in(
    labels_there: list[str], prompt: str, label: str
) -> None:
    one, other = (f'<Label value="{each}"/>' for each in labels_there)
    control = '<RectangleLabels name="{}" toName="image">{}</RectangleLabels>'
    for tags in (
        control.format("a", one + other),
        control.format("a", one) + control.format("b", other),
    ):
        area, image = (
            '<TextArea name="prompt" toName="image"/>',
            '<Image name="image" value="$image"/>',
        )
        config = f"<View>{area}{image}{tags}</View>"
        assert labels(plan([typed(prompt)], config=config)) == [label]


def test_a_word_that_is_a_label_elsewhere_does_not_get_a_picture_s_first_label() -> None:
    settings = AppSettings(prompts={"unknown_phrases": "first_label"})
    assert [plan.uri for plan in plans_of("cat", settings)] == ["l.jpg"]
    left, right = plans_of("cat . zebra", settings)
    assert (left.phrases, labels(left)) == (("cat", "zebra"), ["cat", "cat"])
    assert (right.phrases, labels(right)) == (("cat", "zebra"), [None, "dog"])


def test_a_label_with_a_dot_can_be_prompted() -> None:
    config = CONFIG.replace('value="Cat"', 'value="St. Bernard"')
    look = plan([typed("st. bernard . car")], config=config)
    assert labels(look) == ["St. Bernard", "Car"]


def test_null_entries_of_a_draft_are_overlooked() -> None:
    drafts = [{"result": [{"from_name": None, "type": None, "value": None}, typed("car")]}]
    assert plan([], drafts).phrases == ("car",)


@pytest.mark.parametrize("text", ["blurry, please check", "an old label"])
def test_a_remembered_or_drafted_text_that_matches_no_label_is_ignored(text: str) -> None:
    assert plan(remembered=PromptRequest(text)).phrases == ("Cat", "car", "truck")
    assert plan(drafts=[{"result": [typed(text)]}]).phrases == ("Cat", "car", "truck")


OCR = CONFIG.replace('name="prompt"', 'name="caption" value="$ocr"')
LONG = "lorem ipsum " * 400


def test_a_long_text_that_a_task_brings_along_is_no_prompt() -> None:
    config = parse_labeling_config(OCR, 100)
    task = Task.model_validate({"data": {"image": "a.jpg", "ocr": LONG}})
    sources = PromptSources.of(task, None, ProjectPrompts(PromptRequest("car")), config)
    [look] = plan_task(task, config, sources, AppSettings()).looks
    assert look.phrases == ("car",)


def test_a_prompt_that_is_too_long_is_an_error_only_where_it_was_just_typed() -> None:
    assert plan(drafts=[{"result": [typed(LONG)]}]).phrases == ("Cat", "car", "truck")
    assert plan(remembered=PromptRequest(LONG)).phrases == ("Cat", "car", "truck")
    with pytest.raises(PromptError, match="longer than 4000 characters"):
        plan([typed(LONG)])


def test_after_an_old_text_that_no_label_knows_the_next_one_counts() -> None:
    drafts = [
        {"result": [typed("blurry picture"), number(0.9)], "updated_at": "2026-01-02"},
        {"result": [typed("truck")], "updated_at": "2026-01-01"},
    ]
    look = plan(drafts=drafts, remembered=PromptRequest("cat"))
    assert (look.phrases, look.thresholds.box) == (("truck",), 0.9)
    assert plan(drafts=drafts[:1], remembered=PromptRequest("cat")).phrases == ("cat",)


UNREADABLE = ["\ufffd", "\u0301", "\ufe0f", "lorem ipsum " * 30]


@pytest.mark.parametrize("phrase", UNREADABLE)
def test_words_that_no_caption_can_hold_cost_the_rest_of_a_prompt_nothing(phrase: str) -> None:
    for look in (
        plan([typed(f"cat . {phrase}")]),
        plan(remembered=PromptRequest(f"{phrase} . cat")),
    ):
        assert look.phrases == ("cat",)


@pytest.mark.parametrize("phrase", ["?", "🙂", "猫", *UNREADABLE])
def test_an_old_prompt_for_labels_that_cannot_be_read_is_ignored(phrase: str) -> None:
    config = CONFIG.replace('value="Cat"', f'value="{phrase}"')
    assert plan(remembered=PromptRequest(phrase), config=config).phrases == ("car", "truck")
    assert plan(remembered=PromptRequest(f"{phrase} . car"), config=config).phrases == ("car",)
    assert (
        submitted_prompt(submit(result=[typed(phrase)], config=config), PromptSettings()) == NOBODY
    )


@pytest.mark.parametrize("label", ["🙂", "猫", "ดาวแดง"])
def test_a_label_that_cannot_be_read_is_never_left_out_in_silence(label: str) -> None:
    config = CONFIG.replace('value="Cat"', f'value="{label}"')
    for whole in (whole_plan([typed(f"{label} . car")], config=config), whole_plan(config=config)):
        assert whole.unreadable == (label,)
        assert "car" in whole.looks[0].phrases
    for other in ('value="Car" predicted_values="car, truck"', 'value="Car"'):
        config = config.replace(other, f'value="{label}{label}"')
    for alone in ([typed(label)], None):
        with pytest.raises(PromptError, match=r'has no word of .*predicted_values="cat"'):
            plan(alone, config=config)


def test_a_prompt_that_would_fail_every_later_task_is_not_remembered() -> None:
    for prompt in ("car: " + "lorem ipsum " * 30, LONG + ". car"):
        event = submit(result=[typed(prompt), number(0.2)])
        assert submitted_prompt(event, PromptSettings()) == PromptRequest(None, 0.2)
    event = submit(result=[typed("zebra . car")])
    assert submitted_prompt(event, PromptSettings(unknown_phrases="reject")) == NOBODY


def test_a_list_of_annotations_is_welcome_and_says_nothing() -> None:
    event = WebhookRequest.model_validate(
        {"action": "ANNOTATIONS_CREATED", "project": {"id": 1}, "annotation": [{"result": []}]}
    )
    assert submitted_prompt(event, PromptSettings()) == NOBODY
    assert submitted_prompt(
        submit(result=[typed("car")], was_cancelled=None), PromptSettings()
    ).prompt


def test_labels_of_a_task_s_own_are_remembered_when_the_webhook_brings_them() -> None:
    config = """<View><Image name="image" value="$image"/><TextArea name="prompt" toName="image"/>
      <RectangleLabels name="label" toName="image" value="$labels"/></View>"""
    event = submit(result=[typed("panda")], config=config)
    assert submitted_prompt(event, PromptSettings()) == NOBODY
    task = {"task": {"data": {"labels": [{"value": "panda"}]}}}
    event = WebhookRequest.model_validate(event.model_dump() | task)
    assert submitted_prompt(event, PromptSettings()) == PromptRequest("panda")


def echo(
    config: str, context: list[dict[str, Any]] | None = None, remembered: PromptRequest = REMEMBERED
) -> PromptEcho | None:
    parsed = parse_labeling_config(config, 100)
    task = Task.model_validate({"data": {"image": "a.jpg"}})
    typed_in = None if context is None else Context.model_validate({"result": context})
    sources = PromptSources.of(task, typed_in, ProjectPrompts(remembered), parsed)
    return plan_task(task, parsed, sources, AppSettings()).echo


def test_a_remembered_prompt_is_echoed_in_bulk_where_that_does_not_hide_its_text_area() -> None:
    assert echo(CONFIG) == PromptEcho("prompt", "image", "car")
    assert echo(CONFIG, remembered=NOBODY) is None
    assert echo(CONFIG, remembered=PromptRequest("a note")) is None
    assert echo(CONFIG, context=[typed("car")]) is None
    once = CONFIG.replace('name="prompt"', 'name="prompt" maxSubmissions="1"')
    assert echo(once) is None


def planned_for_all_tasks(
    request: PromptRequest, config: str = CONFIG, drafts: tuple[dict[str, Any], ...] = ()
) -> TaskPlan:
    """Return the plan of a task of a bulk request with a prompt of its own."""
    parsed = parse_labeling_config(config, 100)
    task = Task.model_validate({"data": {"image": "a.jpg", "ask": "dog"}, "drafts": list(drafts)})
    remembered = ProjectPrompts(PromptRequest("truck", 0.9), PromptRequest("truck", 0.8, 0.7))
    sources = PromptSources.of(task, None, remembered, parsed, request)
    return plan_task(task, parsed, sources, AppSettings())


def test_the_prompt_of_a_bulk_request_comes_before_all_older_ones() -> None:
    drafts = ({"result": [typed("truck")]},)
    for config in (CONFIG, CONFIG.replace('name="prompt"', 'name="prompt" value="$ask"')):
        plan = planned_for_all_tasks(PromptRequest("cat", 0.0), config, drafts)
        assert plan.looks[0].phrases == ("cat",)
        assert plan.looks[0].thresholds == Thresholds(0.0, 0.7)
        assert plan.echo == PromptEcho("prompt", "image", "cat")
    once = CONFIG.replace('name="prompt"', 'name="prompt" maxSubmissions="1"')
    assert planned_for_all_tasks(PromptRequest("cat"), once).echo is None
    assert planned_for_all_tasks(PromptRequest(None, 0.5)).looks[0].phrases == ("truck",)


def test_the_prompt_of_a_bulk_request_needs_no_tag_and_gives_no_boxes_without_a_label() -> None:
    config = """<View><Image name="image" value="$image"/><RectangleLabels name="l" toName="image">
      <Label value="cat"/><Label value="dog"/></RectangleLabels></View>"""
    [look] = planned_for_all_tasks(PromptRequest("cat . ship"), config).looks
    assert labels(look) == ["cat", None]
    with pytest.raises(PromptError, match="'ship' is not a label of this project"):
        planned_for_all_tasks(PromptRequest("ship"), config)
    for name in ("ask", "prompt"):
        one = f"""<View><Image name="image" value="$image"/><TextArea name="{name}" toName="image"/>
          <RectangleLabels name="l" toName="image"><Label value="cat"/></RectangleLabels></View>"""
        [look] = planned_for_all_tasks(PromptRequest("scratch"), one).looks
        assert labels(look) == ["cat"]


def test_a_task_s_own_prompt_is_nearer_than_the_project_s() -> None:
    config = CONFIG.replace('name="prompt"', 'name="prompt" value="$ask"')
    parsed = parse_labeling_config(config, 100)
    task = Task.model_validate({"data": {"image": "a.jpg", "ask": " truck "}})
    sources = PromptSources.of(task, None, ProjectPrompts(PromptRequest("cat", 0.9)), parsed)
    [look] = plan_task(task, parsed, sources, AppSettings()).looks
    assert look.phrases == ("truck",)
    assert look.thresholds.box == 0.9


def test_the_project_s_own_prompt_is_weaker_than_a_submitted_one_and_stronger_than_the_labels() -> (
    None
):
    parsed = parse_labeling_config(CONFIG, 100)
    task = Task.model_validate({"data": {"image": "a.jpg"}})

    def planned(recalled: ProjectPrompts) -> LookPlan:
        sources = PromptSources.of(task, None, recalled, parsed)
        return plan_task(task, parsed, sources, AppSettings()).looks[0]

    project = PromptRequest("truck", 0.6)
    assert planned(ProjectPrompts(project=project)).phrases == ("truck",)
    assert planned(ProjectPrompts(project=project)).thresholds.box == 0.6
    assert planned(ProjectPrompts(PromptRequest("cat"), project)).phrases == ("cat",)
    assert planned(ProjectPrompts(PromptRequest("an old label", 0.0), project)).phrases == (
        "truck",
    )
    assert (
        planned(ProjectPrompts(PromptRequest("an old label", 0.0), project)).thresholds.box == 0.0
    )


def test_negative_values_are_looked_for_beside_their_label_and_left_out() -> None:
    config = CONFIG.replace('value="Cat"', 'value="Cat" negative_values="dog_house, fox"')
    assert plan(config=config).phrases == ("dog house", "fox", "Cat", "car", "truck")
    assert labels(plan(config=config)) == [None, None, "Cat", "Car", "Car"]
    assert plan([typed("cat")], config=config).phrases == ("cat", "dog house", "fox")
    assert plan([typed("truck")], config=config).phrases == ("truck",)


def test_negative_values_of_a_control_go_with_each_of_its_labels() -> None:
    config = CONFIG.replace('name="label"', 'name="label" negative_values="dog, car"')
    look = plan(config=config)
    asked = dict(zip(look.phrases, labels(look), strict=True))
    assert asked == {"dog": None, "Cat": "Cat", "car": "Car", "truck": "Car"}
    assert plan([typed("truck")], config=config).phrases == ("truck", "dog", "car")


def test_a_prompt_that_leaves_out_all_that_it_names_says_so() -> None:
    with pytest.raises(PromptError, match="excludes everything that it could look for"):
        plan([typed("not: cat, car")])
    with pytest.raises(PromptError, match="excludes everything that it could look for"):
        plan([typed("cat . -cat")])


def test_a_prompt_of_negatives_is_remembered_because_it_changes_what_is_looked_for() -> None:
    assert submitted_prompt(submit(result=[typed("not: car")]), PromptSettings()) == PromptRequest(
        "not: car"
    )
    assert labels(plan(remembered=PromptRequest("not: car"))) == [None, "Cat"]


def test_in_a_project_of_one_label_an_old_text_is_a_prompt_only_in_a_field_that_is_called_so() -> (
    None
):
    one = CONFIG.replace('<Label value="Cat"/>', "")
    assert labels(plan(remembered=PromptRequest("lorry"), config=one)) == ["Car"]
    notes = one.replace('name="prompt"', 'name="notes"')
    assert plan(remembered=PromptRequest("blurry"), config=notes).phrases == ("car", "truck")
    event = submit(result=[typed("blurry", "notes")], config=notes)
    assert submitted_prompt(event, PromptSettings()) == NOBODY
    assert labels(plan([typed("lorry", "notes")], config=notes)) == ["Car"]


def test_the_regions_of_the_context_go_with_the_picture_that_they_are_on() -> None:
    config = parse_labeling_config(CONFIG.replace('value="$image"', 'valueList="$pages"'), 100)
    task = Task.model_validate({"data": {"pages": ["a.jpg", "b.jpg"]}})
    entries = [
        labelled_box("Cat", item_index=1),
        labelled_box("Car"),
        labelled_box("Cat", "another"),
        typed("cat"),
    ]
    context = Context.model_validate({"result": entries})
    sources = PromptSources.of(task, context, ProjectPrompts(), config)
    first, second = plan_task(task, config, sources, AppSettings()).looks
    assert [region.label for region in first.present] == ["Car"]
    assert [region.label for region in second.present] == ["Cat"]
    assert plan(drafts=[{"result": [labelled_box("Cat")]}]).present == ()


def test_the_regions_of_an_annotation_are_read_once_and_not_for_clicks() -> None:
    segmented = CONFIG.replace(
        "</View>",
        '<BrushLabels name="mask" toName="image"><Label value="Car"/></BrushLabels></View>',
    )
    config = parse_labeling_config(segmented, 100)
    task = Task.model_validate({"data": {"image": "a.jpg"}})
    click = {
        "type": "keypointlabels",
        "from_name": "click",
        "to_name": "image",
        "value": {"x": 50, "y": 50, "keypointlabels": ["Car"]},
    }
    context = Context.model_validate({"result": [labelled_box("Car"), click]})
    smart = Context.model_validate({"result": [click]})
    for each in (smart, context):
        sources = PromptSources.of(task, each, ProjectPrompts(), config)
        assert "present" not in each.__dict__
    plan_task(task, config, PromptSources.of(task, smart, ProjectPrompts(), config), AppSettings())
    assert "present" not in smart.__dict__
    assert sources.present is sources.present
    other = Task.model_validate({"data": {"image": "b.jpg"}})
    second = PromptSources.of(other, context, ProjectPrompts(), config)
    assert second.present is sources.present
    assert [region.label for region in second.present] == ["Car"]

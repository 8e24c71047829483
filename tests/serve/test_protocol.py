import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from label_studio_sdk.label_interface.interface import LabelInterface
from PIL import Image, ImageDraw

from tests.support.ray_cluster import wait_for
from tests.support.result_entries import number, typed
from tests.support.scenes import SCENE, data_uri, encoded, fresh, scene
from tests.support.service_client import CONFIG, Service
from tests.support.web import CANARY, Web

TRUTH = {"red circle": (60, 60, 220, 220), "blue square": (380, 200, 560, 400)}

MAX_BATCH_SIZE = 8


def boxes(
    entry: dict[str, Any], picture_wh: tuple[int, int] = (640, 480)
) -> dict[str, tuple[float, ...]]:
    """Label -> corners in pixels."""
    found: dict[str, tuple[float, ...]] = {}
    for region in entry["result"]:
        value, (width, height) = region["value"], picture_wh
        x, y = value["x"] * width / 100, value["y"] * height / 100
        corners = (x, y, x + value["width"] * width / 100, y + value["height"] * height / 100)
        found[value["rectanglelabels"][0]] = corners
    return found


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def assert_both_found(entry: dict[str, Any]) -> None:
    found = boxes(entry)
    assert set(found) == set(TRUTH)
    assert all(iou(found[label], TRUTH[label]) > 0.7 for label in TRUTH)


def test_without_a_prompt_the_project_s_labels_are_found(service: Service) -> None:
    [entry] = service.predict(SCENE)
    assert_both_found(entry)


def test_predictions_satisfy_label_studio_s_own_referee(service: Service) -> None:
    referee = LabelInterface(CONFIG)
    for entry in service.predict(SCENE, SCENE):
        assert referee.validate_prediction(entry, return_errors=True) == []  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("prompt", "labels"),
    [
        ("red circle", {"red circle"}),
        ("Blue Square . RED CIRCLE\n", {"red circle", "blue square"}),
        ("blue square, zebra", {"blue square"}),
    ],
)
def test_a_prompt_says_what_is_looked_for(service: Service, prompt: str, labels: set[str]) -> None:
    [entry] = service.predict(SCENE, context=[typed(prompt)])
    assert set(boxes(entry)) == labels


def test_a_threshold_of_zero_is_zero(service: Service) -> None:
    [default] = service.predict(SCENE)
    zeros = [number(0), number(0, "text_threshold"), typed("red circle . blue square")]
    [everything] = service.predict(SCENE, context=zeros)
    assert len(everything["result"]) > len(default["result"])


def test_an_empty_context_is_answered_at_once_with_nothing(service: Service) -> None:
    [entry] = service.predict("http://127.0.0.1:9/never-asked.png", context=[])
    assert entry["result"] == []


def test_results_keep_the_tasks_length_and_order(service: Service, web: Web) -> None:
    pictures = [SCENE, f"{web.url}/data/upload/1/a.jpg", f"{web.url}/missing", "", SCENE] * 5
    entries = service.predict(*pictures)
    assert ["result" in entry for entry in entries] == [True, True, False, False, True] * 5
    for entry in entries:
        if "result" in entry:
            assert_both_found(entry)


def test_an_item_s_result_does_not_depend_on_its_neighbours(service: Service) -> None:
    [alone] = service.predict(*fresh())
    pairs = zip(fresh(8), fresh(8, size=(300, 300)), strict=True)
    crowd = service.predict(*(picture for pair in pairs for picture in pair))

    def numbers(entry: dict[str, Any]) -> list[Any]:
        """Sorted by label: the scores of the two are as good as equal."""
        by_label = sorted(entry["result"], key=lambda region: region["value"]["rectanglelabels"])
        return [(region["score"], region["value"]) for region in by_label]

    assert [len(numbers(entry)) for entry in crowd[1::2]] == [2] * 8
    for entry in crowd[::2]:
        for (score, value), (score_alone, value_alone) in zip(
            numbers(entry), numbers(alone), strict=True
        ):
            assert score == pytest.approx(score_alone, abs=0.05)  # in bfloat16
            assert value["x"] == pytest.approx(value_alone["x"], abs=0.5)


def test_uploads_and_local_files_come_from_label_studio_with_the_token(
    service: Service, web: Web
) -> None:
    for address in ("/data/upload/3/a.jpg", "/data/local-files/?d=imgs/b.jpg"):
        for uri in (address, web.url + address):
            [entry] = service.predict(uri)
            assert_both_found(entry)
    asked = [authorization for path, authorization in web.seen if path.startswith("/data/")]
    assert set(asked) == {f"Token {CANARY}"}


@pytest.mark.parametrize(
    ("image", "error_type"),
    [
        ("http://127.0.0.1:9/private.png", "ImageAddressError"),
        ("http://localhost:9/latest/meta-data", "ImageAddressError"),
        ("file:///etc/passwd", "ImageAddressError"),
        ("/data/upload/missing.png", "ImageFetchError"),
        ("data:image/png;base64,AAAA", "ImageDecodeError"),
        ("data:image/png;base64,", "ImageDecodeError"),
    ],
)
def test_a_bad_picture_is_an_error_entry_with_a_sentence(
    service: Service, image: str, error_type: str
) -> None:
    entries = service.predict(image, SCENE)
    assert entries[0]["error_type"] == error_type
    assert entries[0]["error"].endswith((".", "!"))
    assert CANARY not in str(entries)
    assert_both_found(entries[1])


def test_exif_orientation_is_applied_as_browsers_do(service: Service) -> None:
    exif = scene().getexif()
    exif[0x0112] = 6  # stored lying: a viewer turns it a quarter clockwise
    stored = scene().rotate(90, expand=True)
    [entry] = service.predict(
        data_uri(encoded(stored, "JPEG", exif=exif, quality=95), "image/jpeg")
    )
    assert (entry["result"][0]["original_width"], entry["result"][0]["original_height"]) == (
        640,
        480,
    )
    assert_both_found(entry)


def test_setup_and_every_prediction_carry_the_same_model_version(service: Service) -> None:
    setup = service.post(
        "/setup", {"project": "1.1", "schema": CONFIG, "hostname": "", "access_token": ""}
    )
    version = setup.json()["model_version"]
    assert version.startswith("demo-")
    assert {entry["model_version"] for entry in service.predict(SCENE, SCENE)} == {version}
    assert service.get("/versions").json() == {"versions": [version]}
    assert service.post("/versions", {"project": "1"}).json() == {"versions": [version]}


def test_health_says_what_is_served_and_what_it_does_not_know(service: Service) -> None:
    wait_for("the detectors are counted", lambda: service.get("/health").json()["detectors"])
    health = service.get("/health").json()
    assert health["status"] == "UP"
    assert health["detectors"] == 1
    assert health["prediction_score"] == "confidence"
    assert health["predict_params"] == ["context", "prompt", "box_threshold", "text_threshold"]
    assert health["model"]["name"] == "demo"
    assert "drawings" in health["model"]["limits"]
    assert health["model"]["source"] == "embedded"
    assert health["label_studio"] == {"host": True, "access_token": True}
    assert service.get("/").json() == health


def test_the_demo_model_gives_the_same_answer_each_time(service: Service) -> None:
    results = [service.predict(SCENE)[0]["result"] for _ in range(7)]
    assert_both_found({"result": results[0]})
    boxes = [[region["value"] for region in result] for result in results]
    assert boxes == [boxes[0]] * 7


def test_the_same_picture_with_other_thresholds_is_not_fetched_again(
    service: Service, web: Web
) -> None:
    # tests/unit/detection/test_detector.py counts the passes through the model.
    address = f"{web.url}/data/upload/9/again.jpg"
    prompt = typed("red circle . blue square")
    assert_both_found(service.predict(address, context=[prompt])[0])
    found = []
    for threshold in (0.0, 0.2, 0.9):
        [entry] = service.predict(address, context=[prompt, number(threshold)])
        found.append(len(entry["result"]))
    assert found == [2, 2, 0]
    assert [path for path, _ in web.seen].count("/data/upload/9/again.jpg") == 1


def test_health_and_setup_do_not_wait_for_the_model(service: Service) -> None:
    pictures = 150
    bulk = threading.Thread(target=service.predict, args=fresh(pictures))
    bulk.start()
    answers = 0
    while bulk.is_alive():
        assert requests.get(f"{service.url}/health", timeout=5).status_code == 200
        assert requests.post(f"{service.url}/setup", json={}, timeout=5).status_code == 200
        answers += 1
        time.sleep(0.02)
    bulk.join()
    # An answer that waited for the model would come once a batch.
    assert answers > 2 * pictures / MAX_BATCH_SIZE


def test_the_newest_submit_s_prompt_is_remembered_for_its_project_alone(service: Service) -> None:
    def submit(project: int, prompt: str, updated_at: str) -> None:
        event = {
            "action": "ANNOTATION_CREATED",
            "project": {
                "id": project,
                "created_at": "2026-01-01T00:00:00.4Z",
                "label_config": CONFIG,
            },
            "annotation": {"result": [typed(prompt)], "updated_at": updated_at},
        }
        assert service.post("/webhook", event).status_code == 201

    created = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    seventy, seventy_one = f"70.{created}", f"71.{created}"
    submit(70, "red circle", "2026-01-03T00:00:00Z")  # the first request about this project
    assert set(boxes(service.predict(SCENE, project=seventy)[0])) == set(TRUTH)
    submit(70, "blue square", "2026-01-02T00:00:00Z")
    submit(70, "red circle", "2026-01-01T00:00:00Z")  # arrives late: it is the older one
    submit(70, "blurry, please check", "2026-01-04T00:00:00Z")  # a comment, no prompt
    assert set(boxes(service.predict(SCENE, project=seventy)[0])) == {"blue square"}
    assert set(boxes(service.predict(SCENE, project=seventy_one)[0])) == set(TRUTH)
    assert set(boxes(service.predict(SCENE, project="70.99")[0])) == set(TRUTH)  # another server's
    typed_in = service.predict(SCENE, project=seventy, context=[typed("red circle")])
    assert set(boxes(typed_in[0])) == {"red circle"}

    shown = service.get("/prompts?project=70").json()["prompts"]
    assert [(each["project"], each["prompt"]) for each in shown] == [(seventy, "blue square")]
    gone = requests.delete(f"{service.url}/prompts?project=70", timeout=10)
    assert gone.json() == {"forgotten": 1}
    assert service.get("/prompts?project=70").json() == {"prompts": []}
    assert set(boxes(service.predict(SCENE, project=seventy)[0])) == set(TRUTH)


@pytest.mark.parametrize(
    "event",
    [
        {"action": "SOMETHING_NEW"},
        {"action": "ANNOTATIONS_CREATED", "project": {"id": 1}, "annotation": [{"result": []}]},
        {"action": "ANNOTATIONS_DELETED", "project": {"id": 1}},
    ],
)
def test_other_webhooks_are_welcome(service: Service, event: dict[str, Any]) -> None:
    assert service.post("/webhook", event).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        None,
        5,
        [],
        {},
        {"tasks": {}},
        {"tasks": [], "label_config": CONFIG, "params": {"context": {"result": "x"}}},
    ],
)
def test_a_body_of_another_form_is_refused_with_a_sentence(service: Service, body: Any) -> None:
    answer = service.post("/predict", body)
    assert answer.status_code == 422
    assert "form" in answer.json()["error"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_what_is_no_task_is_an_error_in_a_short_sentence_and_its_neighbour_is_served(
    service: Service,
) -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    task = {"id": 1, "data": {"image": SCENE}}
    bad = [5, {"id": 1}, {"data": "x"}, {"data": deep}]
    answer = service.post("/predict", {"tasks": [*bad, task], "label_config": CONFIG})
    *entries, good = answer.json()["results"]
    assert [entry["error_type"] for entry in entries] == ["RequestError"] * len(bad)
    assert all(len(entry["error"]) < 200 for entry in entries)
    assert good["result"]


def test_connecting_a_project_whose_config_cannot_be_served_says_why(service: Service) -> None:
    answer = service.post("/setup", {"project": "1.1", "schema": "<View></View>"})
    assert answer.status_code == 422
    assert "has no Image" in answer.json()["error"]


def test_what_is_not_json_is_refused(service: Service) -> None:
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{service.url}/predict", b"{tasks", headers=headers, timeout=10)
    assert answer.status_code == 422


def test_an_unusable_labeling_config_is_an_error_for_each_task(service: Service) -> None:
    entries = service.predict(SCENE, SCENE, config="<View></View>")
    assert [entry["error_type"] for entry in entries] == ["LabelingConfigError"] * 2


def test_unknown_routes_say_where_the_known_ones_are(service: Service) -> None:
    answer = service.get("/predictions")
    assert answer.status_code == 404
    assert "/docs" in answer.json()["error"]


def eventually(
    read: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 10.0
) -> Any:
    """Poll `read` until `wanted` accepts its value: reports follow the answer to the journal."""
    deadline = time.monotonic() + seconds
    while not wanted(found := read()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_metrics_count_tasks_and_failures(service: Service) -> None:
    before = service.get("/metrics").json()
    service.predict(SCENE, "")
    after = eventually(
        lambda: service.get("/metrics").json(),
        lambda found: found["tasks"] >= before.get("tasks", 0) + 2,
    )
    assert after["tasks"] - before.get("tasks", 0) == 2
    assert after["tasks_failed"] - before.get("tasks_failed", 0) == 1
    assert after["bulk_seconds_p50"] > 0
    assert after["tasks_in_progress"] == 0


def test_the_newest_errors_can_be_read_by_project_and_request(service: Service) -> None:
    headers = {"X-Request-ID": "request-of-the-test"}
    body = {
        "tasks": [{"id": 70, "data": {"image": ""}}, {"id": 71, "data": {"image": "data:,x"}}],
        "project": "41.7",
        "label_config": CONFIG,
    }
    service.post("/predict", body, headers=headers)
    found = eventually(
        lambda: service.get("/errors", params={"project": "41"}).json()["errors"], bool
    )
    assert [(each["task"], each["project"]) for each in found] == [(71, "41.7"), (70, "41.7")]
    assert {each["request_id"] for each in found} == {"request-of-the-test"}
    assert "data:image/" in found[0]["error"]
    assert service.get("/errors", params={"project": "4"}).json()["errors"] == []


def test_a_request_that_fails_as_a_whole_is_among_the_errors(service: Service) -> None:
    answer = service.post("/predict", {"tasks": 1}, headers={"X-Request-ID": "malformed-one"})
    assert answer.status_code == 422
    found = eventually(
        lambda: [
            each
            for each in service.get("/errors", params={"limit": 500}).json()["errors"]
            if each["request_id"] == "malformed-one"
        ],
        bool,
    )
    assert [each["error"] for each in found] == [answer.json()["error"]]


def test_basic_auth_guards_all_but_the_webhook(guarded: Service) -> None:
    bare = requests.Session()
    bare.trust_env = False
    for method, path in [("GET", "/health"), ("POST", "/setup"), ("POST", "/predict")]:
        for auth in (None, ("annotator", "wrong"), ("", "")):
            answer = bare.request(method, guarded.url + path, auth=auth, json={}, timeout=10)
            assert answer.status_code == 401
            assert "BASIC_AUTH_USER" in answer.json()["error"]
    odd = {"Authorization": b"Basic \xe9\xe9"}
    assert bare.get(f"{guarded.url}/health", headers=odd, timeout=10).status_code == 401
    too_large = bare.post(f"{guarded.url}/predict", data=b" " * 2_000_000, timeout=10)
    assert too_large.status_code == 401, "the body of a stranger is not read"
    webhook = bare.post(f"{guarded.url}/webhook", json={"action": "X"}, timeout=10)
    assert webhook.status_code == 201
    assert guarded.get("/health").status_code == 200
    bare.close()


def test_the_environment_s_threshold_reaches_the_replicas(guarded: Service) -> None:
    [entry] = guarded.predict(SCENE)
    assert entry["result"] == []
    [lowered] = guarded.predict(SCENE, context=[number(0.3)])
    assert_both_found(lowered)


def test_settings_change_the_model_version(service: Service, guarded: Service) -> None:
    versions = {each.post("/setup", {}).json()["model_version"] for each in (service, guarded)}
    assert len(versions) == 2


def test_the_unknown_phrases_setting_is_honoured(guarded: Service) -> None:
    [entry] = guarded.predict(SCENE, context=[typed("red circle . zebra")])
    assert "'zebra' is not a label" in entry["error"]


def test_tiles_find_what_is_too_small_in_the_whole_picture(
    service: Service, guarded: Service
) -> None:
    picture = Image.new("RGB", (4000, 3000), (150, 150, 150))
    truth = {"red circle": (2620, 1280, 2700, 1360), "blue square": (600, 1960, 675, 2035)}
    draw = ImageDraw.Draw(picture)
    draw.ellipse(truth["red circle"], fill=(215, 30, 30))
    draw.rectangle(truth["blue square"], fill=(35, 70, 220))
    uri = data_uri(encoded(picture))
    [whole] = service.predict(uri)
    [tiled] = guarded.predict(uri, context=[number(0.3), typed("red circle . blue square")])
    assert whole["result"] == []
    found = boxes(tiled, picture.size)
    assert len(tiled["result"]) == len(found) == 2
    assert all(iou(found[label], truth[label]) > 0.7 for label in truth)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused(guarded: Service, declared: bool) -> None:
    body = b" " * 1_100_000
    content = body if declared else iter([body[:600_000], body[600_000:]])
    headers = {"Content-Type": "application/json"}
    answer = guarded.session.post(
        f"{guarded.url}/predict", data=content, headers=headers, timeout=30
    )
    assert answer.status_code == 413
    assert "max_body_bytes" in answer.json()["error"]

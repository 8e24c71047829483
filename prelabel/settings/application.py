"""Settings of the application: the values under `args:` in serve_config.yaml, in groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, model_validator

from prelabel.net.allowed_hosts import to_hosts
from prelabel.settings.fields import SettingsGroup, setting
from prelabel.settings.flat_names import refuse_flat_names
from prelabel.settings.playground import PlaygroundSettings
from prelabel.settings.review import ReviewSettings
from prelabel.settings.values import to_log_level

MIB: Final = 1024 * 1024
MAX_TASKS: Final = 50_000  # of one request; the parser refuses more before it reads them


class ModelSettings(SettingsGroup):
    """The model, and how it runs."""

    name: str = setting(
        "demo",
        changes_predictions=True,
        description="Name of the model's card, as `prelabel models` lists it, or the path of a "
        "card of your own.",
    )
    folder: str = setting(
        "models", changes_predictions=False, description="Folder of the downloaded models."
    )
    segmenter: str = setting(
        "auto",
        changes_predictions=True,
        description="Name of the segmenter's card, as `prelabel models` lists it, or the path of a "
        "card of your own. It draws masks where a labeling config asks for them. `auto`: the "
        "embedded segmenter beside the embedded detector, else none; empty: none.",
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto",
        changes_predictions=True,
        description="Device of the model. `auto`: a GPU if the cluster has one when the "
        "application is deployed. A cluster that starts without GPU nodes must say `cuda`.",
    )
    precision: Literal["auto", "float32", "float16", "bfloat16"] = setting(
        "auto",
        changes_predictions=True,
        description="Format of the large matrix products; coordinates and scores are float32. "
        "`auto`: on NVIDIA GPUs whose tensor cores have it, float16 for boxes and bfloat16 for "
        "masks, else float32. On CPUs bfloat16 is faster for large models where the processor has "
        "AMX or AVX512_BF16, by a third, and moves boxes by some pixels.",
    )


class DetectionSettings(SettingsGroup):
    """Thresholds, suppression of overlapping boxes, batches and tiles."""

    box_threshold: float = setting(
        0.3,
        changes_predictions=True,
        description="Lowest score of a box. 0 keeps every box.",
        ge=0,
        le=1,
    )
    text_threshold: float = setting(
        0.25,
        changes_predictions=True,
        description="Lowest mean score over all words of a box's phrase: a higher value demands "
        'that "red star" is both red and a star.',
        ge=0,
        le=1,
    )
    nms_iou_threshold: float = setting(
        0.7,
        changes_predictions=True,
        description="Of two boxes whose intersection over union is above this value, only the "
        "one with the higher score is kept. 1 keeps all.",
        ge=0,
        le=1,
    )
    nms_class_agnostic: bool = setting(
        False,
        changes_predictions=True,
        description="Let boxes of different labels suppress each other, too.",
    )
    max_boxes: int = setting(
        300,
        changes_predictions=True,
        description="Most boxes per picture. Those with the highest scores are kept.",
        ge=1,
        le=10_000,
    )
    min_box_px: float = setting(
        1.0,  # a float, so that its JSON in the model version is that of a YAML value
        changes_predictions=True,
        description="Least width and height of a box, in pixels of the original picture.",
        ge=0,
    )
    max_batch_size: int = setting(
        8,
        changes_predictions=False,
        description="Most pictures in one pass through the model.",
        ge=1,
        le=256,
    )
    tile_size: int = setting(
        0,
        changes_predictions=True,
        description="For small objects in large pictures: a picture with a side longer than this, "
        "in pixels, is also searched in square tiles of this size. 0: no tiles.",
        ge=0,
    )
    tile_overlap: float = setting(
        0.25,
        changes_predictions=True,
        description="Share of its side that a tile has in common with the next one. Objects up to "
        "that size are whole in one of the tiles; larger ones are found in the whole picture.",
        ge=0.05,
        le=0.5,
    )
    max_tiles: int = setting(
        64,
        changes_predictions=True,
        description="Most tiles of a picture. The tiles of a picture that would need more are "
        "made larger.",
        ge=1,
        le=1024,
    )


class MaskSettings(SettingsGroup):
    """Masks: what of them is drawn, and how much."""

    min_island_px: int = setting(
        16,
        changes_predictions=True,
        description="Parts of a mask with fewer pixels than this are left out, but for the largest "
        "part. In pixels of the original picture.",
        ge=0,
    )
    min_hole_px: int = setting(
        16,
        changes_predictions=True,
        description="Holes in a mask with fewer pixels than this are filled.",
        ge=0,
    )
    box_margin: float = setting(
        0.05,
        changes_predictions=True,
        description="How far a mask may reach beyond its box, as a share of the box's width and "
        "height.",
        ge=0,
        le=1,
    )
    overlaps: Literal["keep", "best_score"] = setting(
        "keep",
        changes_predictions=True,
        description="Pixels that several masks of a picture claim. `keep`: all of them get the "
        "pixel; `best_score`: the mask with the highest score gets it.",
    )
    polygon_tolerance_px: float | None = setting(
        None,
        changes_predictions=True,
        description="How far the outline of a PolygonLabels or VectorLabels region may be from the "
        "mask's edge, in pixels of the original picture. Empty: about a quarter of the distance "
        "that the model resolves.",
        ge=0,
        le=1_000,
    )
    polygon_parts: Literal["all", "largest"] = setting(
        "all",
        changes_predictions=True,
        description="Outlines of a mask that falls into several parts: one region for each part, "
        "or the largest part alone.",
    )
    max_masks: int = setting(
        100,
        changes_predictions=True,
        description="Most masks per picture, those of the boxes with the highest scores. Browsers "
        "become slow with hundreds of brushes.",
        ge=1,
        le=10_000,
    )
    max_bytes: int = setting(
        16 * MIB,
        changes_predictions=True,
        description="Most bytes of all masks of a task, in JSON. Larger masks are left out from "
        "there on; boxes and smaller masks, such as polygons, stay.",
        ge=0,
    )


class PromptSettings(SettingsGroup):
    """Prompts: the labels of their phrases, their storage and their limits."""

    unknown_phrases: Literal["unlabelled", "drop", "first_label", "reject"] = setting(
        "unlabelled",
        changes_predictions=True,
        description="Treatment of a prompt's phrases that match no label of the project. "
        "`unlabelled`: a prompt that an annotator types gives boxes without a label, and bulk "
        "predictions leave these phrases out; `drop`: the phrases are searched for, so that their "
        "objects are not taken for others, and their boxes are left out; `first_label`: their "
        "boxes get the control's first label; `reject`: the task fails with an error that names "
        "the phrases.",
    )
    remember: bool = setting(
        True,
        changes_predictions=True,
        description="Store the prompt of each project's newest submitted annotation and use it "
        "for tasks that come without a prompt.",
    )
    file: str = setting(
        "data/prompts.sqlite",
        changes_predictions=False,
        description="File that stores these prompts across restarts; empty: in memory only. A "
        "cluster stores them in Redis instead (PROMPTS_REDIS_URL).",
    )
    max_chars: int = setting(
        4_000, changes_predictions=True, description="Longest prompt, in characters.", ge=1
    )
    max_labels: int = setting(
        1_000, changes_predictions=True, description="Most labels for one picture.", ge=1
    )


class ImageSettings(SettingsGroup):
    """Limits on pictures, and the hosts that may serve them."""

    max_bytes: int = setting(
        50 * MIB, changes_predictions=True, description="Largest picture, in bytes.", ge=1
    )
    max_pixels: int = setting(
        64_000_000,
        changes_predictions=True,
        description="Largest picture, in pixels; checked before decoding.",
        ge=1,
        le=178_956_970,  # above it Pillow refuses a picture as a decompression bomb
    )
    connect_timeout_s: float = setting(
        5,
        changes_predictions=False,
        description="Longest time for a connection to a picture's server, in seconds.",
        gt=0,
    )
    fetch_timeout_s: float = setting(
        30,
        changes_predictions=False,
        description="Longest time to fetch one picture, in seconds, redirects included.",
        gt=0,
    )
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(to_hosts)] = setting(
        (),
        changes_predictions=False,
        description="Hosts that may serve pictures although their address is private: `host:port`, "
        "`host` (with all of its ports), `*.example.com` (all names under a domain) or "
        "`10.0.0.0/8` (all addresses of a network). Label Studio itself is always allowed.",
    )
    proxy_resolves_names: bool = setting(
        False,
        changes_predictions=False,
        description="Let the proxy fetch pictures from hosts whose names only the proxy can "
        "resolve. The service cannot check then that a name does not lead to a private address: "
        "set it only where the proxy itself refuses private addresses.",
    )


class LimitSettings(SettingsGroup):
    """Limits on requests and on concurrent work."""

    max_tasks: int = setting(
        5_000,
        changes_predictions=False,
        description="Most tasks in one request.",
        ge=1,
        le=MAX_TASKS,
    )
    max_body_bytes: int = setting(
        64 * MIB, changes_predictions=False, description="Largest request body, in bytes.", ge=1
    )
    request_deadline_s: float = setting(
        90,
        changes_predictions=False,
        description="Longest time for a whole request, in seconds. Tasks that are not done by "
        "then are answered with errors that can be retried. Label Studio gives up after 100 s.",
        gt=0,
    )
    max_answer_bytes: int = setting(
        64 * MIB,
        changes_predictions=False,
        description="Most bytes of masks in the answer to one request, in JSON. Tasks that are "
        "left by then are answered with errors that can be retried, so that the masks of a "
        "thousand large pictures take bounded memory.",
        ge=1,
    )
    task_concurrency: int = setting(
        32,
        changes_predictions=False,
        description="Pictures that an ingress works on at the same time, over all bulk requests. "
        "A request of one task does not wait for bulk requests.",
        ge=1,
    )


class CacheSettings(SettingsGroup):
    """Caches of results and of pictures. A size of 0 keeps nothing."""

    result_bytes: int = setting(
        256 * MIB,
        changes_predictions=False,
        description="Size of the cache of the model's results per picture and prompt, in bytes "
        "for each detector. With it, other thresholds and a task that is opened again cost no "
        "second pass.",
        ge=0,
    )
    encoding_bytes: int = setting(
        512 * MIB,
        changes_predictions=False,
        description="Size of the cache of encoded pictures for masks, in bytes for each detector. "
        "With it, a click costs no second pass through the image encoder. A picture takes 0.4 MB "
        "with the embedded segmenter, and 2 to 8 MB with the others.",
        ge=0,
    )
    picture_bytes: int = setting(
        128 * MIB,
        changes_predictions=False,
        description="Size of the caches of pictures, in bytes: encoded in each ingress, decoded "
        "in each detector. With them, the next prompt for a picture needs no fetching and "
        "decoding.",
        ge=0,
    )
    picture_s: float = setting(
        300,
        changes_predictions=False,
        description="Longest time that a picture is cached, in seconds. A picture that changes at "
        "its address is seen after this time.",
        gt=0,
    )


_EMBEDDED_MODEL: Final = "demo"
_EMBEDDED_SEGMENTER: Final = "demo-segmenter"


class AppSettings(SettingsGroup):
    """Values under `args:` in serve_config.yaml. Unknown names and wrong values are refused."""

    model: ModelSettings = ModelSettings()
    detection: DetectionSettings = DetectionSettings()
    masks: MaskSettings = MaskSettings()
    review: ReviewSettings = ReviewSettings()
    prompts: PromptSettings = PromptSettings()
    images: ImageSettings = ImageSettings()
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    playground: PlaygroundSettings = PlaygroundSettings()
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(to_log_level)
    ] = setting("INFO", changes_predictions=False, description="Least severity of log lines.")
    release: str = setting(
        "",
        changes_predictions=False,
        description="Any text. Serve rolls out a config that has changed, and does not look at "
        "the code: another text here starts a rollout. `make cluster-deploy` writes a digest of "
        "the code.",
        max_length=200,
    )

    @property
    def segmenter_name(self) -> str:
        """Name of the segmenter's card; "" if the service draws no masks."""
        if self.model.segmenter != "auto":
            return self.model.segmenter.strip()
        return _EMBEDDED_SEGMENTER if self.model.name == _EMBEDDED_MODEL else ""

    @model_validator(mode="before")
    @classmethod
    def _refuse_flat_names(cls, args: object) -> object:
        if isinstance(args, Mapping):
            refuse_flat_names(args)
        return args

"""A minimal Flask server around the engine, written as Label Studio's `grounding_dino` example is.

It predicts one task at a time, without batches or a queue. gunicorn runs it with one worker and
eight threads, as it runs that example.
"""

from __future__ import annotations

import base64
import os

from flask import Flask, jsonify, request

from benchmarks.models import PHRASES
from prelabel.checkpoints.cards import load_card, model_folder
from prelabel.detection.scoring import select_detections
from prelabel.detection.suppression import Suppression
from prelabel.engines import load_engine
from prelabel.images.decode import decode_image
from prelabel.labelstudio.predictions import to_prediction, to_regions
from prelabel.settings import AppSettings
from prelabel.types import LookPlan, Target, Thresholds

SETTINGS = AppSettings()
DETECTION = SETTINGS.detection
# gunicorn imports this module itself, so the model cannot be passed as an argument.
CARD = load_card(os.environ.get("PRELABEL_BENCH_MODEL", "demo"))
ENGINE = load_engine(CARD, model_folder(CARD, "models"), device="cpu", precision="auto")
THRESHOLDS = Thresholds(DETECTION.box_threshold, DETECTION.text_threshold)
TARGETS = tuple(Target("label", "image", phrase, 0.0) for phrase in PHRASES)
LOOK = LookPlan("", None, PHRASES, TARGETS, THRESHOLDS)
SUPPRESSION = Suppression.of(DETECTION)

app = Flask(__name__)


@app.get("/health")
def health():  # type: ignore[no-untyped-def]
    """Answer that the server runs."""
    return jsonify(status="UP")


@app.post("/predict")
def predict():  # type: ignore[no-untyped-def]
    """Predict the tasks one after the other."""
    results = []
    for task in request.get_json()["tasks"]:
        encoded = base64.b64decode(task["data"]["image"].partition(",")[2])
        image = decode_image(encoded, max_pixels=SETTINGS.images.max_pixels)
        found = ENGINE.detect(ENGINE.prepare(image, PHRASES))
        detections = select_detections(found, THRESHOLDS, (image.shape[1], image.shape[0]))
        results.append(to_prediction(list(to_regions(LOOK, detections, SUPPRESSION)), CARD.name))
    return jsonify(results=results)

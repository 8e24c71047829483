"""Binds the deployments together: the only file that imports them all.

No `from __future__ import annotations` here: Ray would then hand `build_app` an unvalidated dict.
"""

import ray
from ray import serve
from ray.serve import Application

from deployments.detector import Detector
from deployments.ingress import Ingress
from deployments.journal import JournalDeployment
from deployments.placement import place_detector
from deployments.postprocessor import Postprocessor
from deployments.prompt_store import PromptStore
from prelabel.checkpoints.cards import (
    check_installed,
    installed_segmenter,
    load_card,
    model_folder,
    text_encoder_folder,
)
from prelabel.checkpoints.image_size import size_warning
from prelabel.checkpoints.version import model_version
from prelabel.engines import EngineLoader, load_engine
from prelabel.phrases.vocabulary import Vocabulary
from prelabel.service import ServedModel
from prelabel.settings import AppSettings, read_environment


def build_app(settings: AppSettings) -> Application:
    """Return the application.

    Args:
        settings: The values under `args:` in serve_config.yaml.

    Raises:
        ModelError: The model is not installed.
        SettingsError: A variable of the environment is wrong.
    """
    return bind_app(settings, load_engine)


def bind_app(settings: AppSettings, load: EngineLoader) -> Application:
    """Return the application whose detectors load their engine with `load`.

    The environment is read here, once, and passed to the replicas as an argument, because Ray
    starts replicas on other nodes without the environment of the driver.
    """
    environment = read_environment()
    settings, traces = environment.override(settings), environment.traces
    card = load_card(settings.model.name)
    folder = model_folder(card, settings.model.folder)
    check_installed(card, folder)
    segmenter = installed_segmenter(settings)
    version = model_version(card, folder, settings, segmenter)
    vocabulary = Vocabulary.from_folder(text_encoder_folder(card, folder))
    warning = size_warning(card, folder)
    model = ServedModel(card, version, vocabulary, segmenter, warning)
    place = place_detector(settings.model.device, ray.nodes())  # type: ignore[no-untyped-call]
    detector = serve.deployment(ray_actor_options=place.options)(Detector)
    postprocessor = serve.deployment()(Postprocessor)
    prompt_store = serve.deployment()(PromptStore)
    journal = serve.deployment(name="Journal")(JournalDeployment)
    ingress = serve.deployment()(Ingress)
    return ingress.bind(
        settings,
        environment,
        model,
        detector.bind(settings, card, place, load, segmenter, traces=traces),
        postprocessor.bind(settings, version, traces),
        prompt_store.bind(settings.prompts, environment, settings.log_level),
        journal.bind(settings.log_level),
    )

"""Declares the commands for models and their options.

Each imports its work when it runs, as those of main.py do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prelabel.cli.completion import complete_model
from prelabel.cli.options import MODELS_PANEL, AsJson
from prelabel.cli.terminal import open_terminal, print_json, print_line

ModelsDir = Annotated[Path, typer.Option(help="Folder of the downloaded models.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(rich_help_panel=MODELS_PANEL)(models)
    app.command(
        rich_help_panel=MODELS_PANEL,
        epilog="Example: prelabel download grounding-dino-tiny",
    )(download)
    app.command(
        rich_help_panel=MODELS_PANEL,
        epilog="Example: prelabel calibrate grounding-dino-tiny --device cpu",
    )(calibrate)


def models(models_dir: ModelsDir = Path("models"), json_output: AsJson = False) -> None:
    """List the available detectors and segmenters, and which of them are installed."""
    from prelabel.cli.models import show_models

    show_models(models_dir, open_terminal(), json_output=json_output)


def download(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a model, as `prelabel models` lists it.", autocompletion=complete_model
        ),
    ],
    models_dir: ModelsDir = Path("models"),
    json_output: AsJson = False,
) -> None:
    """Download a detector or a segmenter and verify its checksums.

    Run the command again to resume an interrupted download.
    """
    from prelabel.cli.models import download_model

    download_model(name, models_dir, open_terminal(), json_output=json_output)


def calibrate(
    model: Annotated[
        str,
        typer.Argument(help="Name of an installed model.", autocompletion=complete_model),
    ] = "demo",
    device: Annotated[str, typer.Option(help="Device: auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision: auto, float32 or bfloat16.")] = "auto",
    models_dir: ModelsDir = Path("models"),
    json_output: AsJson = False,
) -> None:
    """Measure a detector on this machine and propose a batch size, or measure a segmenter.

    Stop the service first: the measurement needs the machine for itself.
    """
    from prelabel.checkpoints.cards import ModelCard, load_any_card, model_folder
    from prelabel.cli.calibrate import report, report_segmenter
    from prelabel.cli.progress import step_shown
    from prelabel.engines import load_engine, load_segmenter

    card = load_any_card(model)
    folder = model_folder(card, models_dir)
    facts: dict[str, object] = {"model": card.name}
    with step_shown("Measuring", open_terminal(json_output=True)) as observe:
        observe("the time to load the model")
        if isinstance(card, ModelCard):
            detector = load_engine(card, folder, device=device, precision=precision)
            parts = report(detector, observe)
        else:
            segmenter = load_segmenter(card, folder, device=device, precision=precision)
            parts = report_segmenter(segmenter, observe)
        for part in parts:
            facts |= part.facts
            if not json_output:
                print_line(part.paragraph, open_terminal())
    if json_output:
        print_json(facts)

"""The `prelabel` command: declares the subcommands and their options.

Each subcommand imports its work when it runs, so that `prelabel --help` does not load NumPy,
Pillow or torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from prelabel import __version__
from prelabel.cli import project_commands
from prelabel.cli.options import Password, ServiceUrl, User, service_client
from prelabel.errors import ModelError, PrelabelError
from prelabel.net.origin import SERVICE_URL

app = typer.Typer(
    help="Labelled boxes in Label Studio from a text prompt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_console = Console()

ServeConfig = Annotated[
    Path | None,
    typer.Argument(help="Serve config file; ./serve_config.yaml if unset, or the shipped one."),
]
ModelsDir = Annotated[Path, typer.Option(help="Folder of the downloaded models.")]


def main() -> None:
    """Run the command. A PrelabelError is printed without a traceback, with exit status 1."""
    try:
        app()
    except PrelabelError as error:
        print(f"prelabel: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _show_version(requested: bool) -> None:
    if requested:
        _console.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Labelled boxes in Label Studio from a text prompt."""


@app.command()
def predict(
    image: Annotated[
        Path, typer.Argument(help="A picture: JPEG, PNG, WebP, AVIF, BMP, GIF or TIFF.")
    ],
    prompt: Annotated[str, typer.Option(help='What to detect, as in "cat . red star".')],
    labels: Annotated[
        str | None,
        typer.Option(help="Labels to keep, comma-separated. Default: all of the prompt."),
    ] = None,
    url: ServiceUrl = SERVICE_URL,
    output: Annotated[
        Path | None, typer.Option(help="File of the drawn picture. Default: IMAGE_prelabel.png.")
    ] = None,
    json_output: Annotated[
        Path | None,
        typer.Option("--json", help="File of the prediction. Default: IMAGE_prelabel.json."),
    ] = None,
    box_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Lowest score of a box. Default: the service's setting."),
    ] = None,
    text_threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Lowest mean score of a phrase. Default: the service's."),
    ] = None,
    masks: Annotated[bool, typer.Option(help="Draw the objects' masks, too.")] = False,
    user: User = None,
    password: Password = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a service that is starting.")
    ] = 60,
) -> None:
    """Detect objects in one picture and draw their boxes, and masks if asked for.

    Needs the running service. Writes the drawn picture, and the prediction as JSON.
    """
    from prelabel.cli.predict import PredictOptions
    from prelabel.cli.predict import predict as predict_image
    from prelabel.settings import read_environment

    options = PredictOptions(
        image, prompt, labels, output, json_output, box_threshold, text_threshold, masks, wait
    )
    predict_image(options, service_client(url, user, password, read_environment()), _console)


@app.command()
def models(models_dir: ModelsDir = Path("models")) -> None:
    """List the available detectors and segmenters, and which of them are installed."""
    from prelabel.checkpoints.cards import (
        Card,
        check_installed,
        list_cards,
        list_segmenter_cards,
        model_folder,
    )

    def table(kind: str, cards: Sequence[Card]) -> Table:
        columns = Table(Column(kind, no_wrap=True), "model", "engine", "licence", "installed")
        for card in cards:
            try:
                check_installed(card, model_folder(card, models_dir))
                installed = "yes"
            except ModelError:
                installed = "no"
            columns.add_row(card.name, card.title, card.engine, card.licence, installed)
        return columns

    _console.print(table("detector", list_cards()))
    _console.print(table("segmenter", list_segmenter_cards()))


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="Name of a model, as `prelabel models` lists it.")],
    models_dir: ModelsDir = Path("models"),
) -> None:
    """Download a detector or a segmenter and verify its checksums.

    Run the command again to resume an interrupted download.
    """
    from prelabel.checkpoints.cards import SegmenterCard, load_any_card
    from prelabel.checkpoints.download import download as fetch

    card = load_any_card(name)
    folder = fetch(card, models_dir)
    key = "segmenter" if isinstance(card, SegmenterCard) else "name"
    setting = f"model: {{{key}: {name}}}"
    _console.print(
        f"{name} is in {folder}. In serve_config.yaml, under args, set `{setting}`.",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def preflight(
    config: ServeConfig = None,
) -> None:
    """Check settings, model, prompt store and ports without starting the service."""
    from prelabel.cli.application import checked_config

    checked_config(config)


@app.command()
def serve(
    config: ServeConfig = None,
) -> None:
    """Run the service.

    Runs the checks of `preflight`, then `serve run`. Ctrl-C or SIGTERM ends the service with all
    its processes.
    """
    from prelabel.cli.application import checked_config, run_application

    raise typer.Exit(run_application(checked_config(config)))


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="Name of an installed model.")] = "demo",
    device: Annotated[str, typer.Option(help="Device: auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision: auto, float32 or bfloat16.")] = "auto",
    models_dir: ModelsDir = Path("models"),
) -> None:
    """Measure a detector on this machine and propose a batch size, or measure a segmenter.

    Stop the service first: the measurement needs the machine for itself.
    """
    from prelabel.checkpoints.cards import ModelCard, load_any_card, model_folder
    from prelabel.cli.calibrate import report, report_segmenter
    from prelabel.engines import load_engine, load_segmenter

    card = load_any_card(model)
    folder = model_folder(card, models_dir)
    if isinstance(card, ModelCard):
        paragraphs = report(load_engine(card, folder, device=device, precision=precision))
    else:
        paragraphs = report_segmenter(
            load_segmenter(card, folder, device=device, precision=precision)
        )
    for paragraph in paragraphs:
        _console.print(paragraph, highlight=False, soft_wrap=True)


@app.command()
def connect(
    project: Annotated[int, typer.Option(min=1, help="Number of the project: /projects/NUMBER.")],
    url: Annotated[
        str, typer.Option(help="Address of the service as Label Studio reaches it.")
    ] = SERVICE_URL,
    title: Annotated[
        str | None,
        typer.Option(help="Name of the model in Label Studio. Default for a new one: prelabel."),
    ] = None,
    interactive: Annotated[
        bool, typer.Option(help="Interactive preannotations: boxes for typed prompts.")
    ] = True,
) -> None:
    """Connect the service to a Label Studio project.

    Run the command again to update the connection.
    """
    from prelabel.cli.connect import backend_form, open_label_studio
    from prelabel.cli.connect import connect as connect_backend
    from prelabel.settings import read_environment

    environment = read_environment()
    form = backend_form(url, environment, title=title, interactive=interactive)
    connected = connect_backend(open_label_studio(environment), project, form)
    for paragraph in connected.report():
        _console.print(paragraph, highlight=False, markup=False)


project_commands.add_to(app)  # here, because --help lists the commands in this order


@app.command()
def doctor(
    url: ServiceUrl = SERVICE_URL,
    project: Annotated[
        int | None, typer.Option(min=1, help="Number of a project to check as well.")
    ] = None,
    backend_url: Annotated[
        str | None,
        typer.Option(help="Address of the service as Label Studio reaches it. Default: --url."),
    ] = None,
) -> None:
    """Diagnose the connection between Label Studio and the service.

    Checks the service, Label Studio and the token; with --project also a project and one of its
    pictures. Prints how to repair each fault. Exits with status 1 if there are faults.
    """
    from prelabel.cli.doctor import print_report
    from prelabel.cli.doctor_checks import DoctorContext
    from prelabel.settings import read_environment

    url = url.rstrip("/")
    context = DoctorContext(url, (backend_url or url).rstrip("/"), project, read_environment())
    if not print_report(context, _console):
        raise typer.Exit(1)

"""The `prelabel` command. Imports nothing heavy until a command needs it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Column, Table
from rich.text import Text

from prelabel import __version__
from prelabel.errors import ImageDecodeError, ModelError, PrelabelError, PromptError
from prelabel.net.origin import SERVICE_URL

if TYPE_CHECKING:
    from prelabel.cli.doctor import Finding
    from prelabel.net.egress import Egress

app = typer.Typer(
    help="Labelled boxes in Label Studio from a text prompt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_console = Console()
_STYLES = {"ok": "green", "warning": "yellow", "fault": "bold red", "skipped": "dim"}

ServeConfig = Annotated[
    Path | None,
    typer.Argument(help="A Serve config file; ./serve_config.yaml if unset, or the shipped one."),
]
ModelsDir = Annotated[Path, typer.Option(help="Folder that holds the downloaded models.")]


def main() -> None:
    """Run the command; an error of ours is its sentence and exit status 1."""
    try:
        app()
    except PrelabelError as error:
        print(f"prelabel: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _show_version(wanted: bool) -> None:
    if wanted:
        _console.print(__version__, highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Labelled boxes in Label Studio from a text prompt."""


@app.command()
def predict(
    image: Annotated[
        Path, typer.Argument(help="A picture: JPEG, PNG, WebP, AVIF, BMP, GIF or TIFF.")
    ],
    prompt: Annotated[str, typer.Option(help='What to look for: "cat . red star".')],
    labels: Annotated[
        str | None, typer.Option(help="Labels to keep, with commas; all of the prompt's if unset.")
    ] = None,
    url: Annotated[str, typer.Option(help="Where the service runs.")] = SERVICE_URL,
    output: Annotated[
        Path | None, typer.Option(help="Drawn picture; IMAGE_prelabel.png if unset.")
    ] = None,
    json_output: Annotated[
        Path | None, typer.Option("--json", help="Prediction; IMAGE_prelabel.json if unset.")
    ] = None,
    box_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="The service's setting if unset.")
    ] = None,
    text_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="The service's setting if unset.")
    ] = None,
    user: Annotated[str | None, typer.Option(envvar="BASIC_AUTH_USER")] = None,
    password: Annotated[str | None, typer.Option(envvar="BASIC_AUTH_PASS")] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Longest wait for a service that is starting, seconds.")
    ] = 60,
) -> None:
    """Ask the running service about a picture; write it with its boxes drawn, and the JSON."""
    from PIL import Image

    from prelabel.cli.drawing import draw_boxes
    from prelabel.cli.preflight import read_environment
    from prelabel.cli.service_client import ask, to_box
    from prelabel.images.decode import decode_image
    from prelabel.net.egress import Egress
    from prelabel.settings.application import AppSettings

    limits = AppSettings()
    asked, kept = _names_in(prompt), _names_in(labels or prompt)
    if not asked:
        raise PromptError('The prompt names nothing to look for. Write it as in "cat . dog".')
    output = output or image.with_name(f"{image.stem}_prelabel.png")
    json_output = json_output or image.with_name(f"{image.stem}_prelabel.json")
    if image.resolve() in (output.resolve(), json_output.resolve()):
        raise ImageDecodeError("The output would replace the picture. Name another --output.")
    content = _read(image)
    upright = decode_image(content, max_pixels=limits.max_image_pixels)
    url = url.rstrip("/")
    auth = (user or "", password or "") if user or password else None
    environment = read_environment()
    egress = Egress.of(environment.trust, environment.proxies)
    if wait:
        _wait_for_service(url, auth, egress, wait)
    prediction = ask(
        url,
        content,
        prompt,
        labels=tuple(asked | kept),
        thresholds={"box_threshold": box_threshold, "text_threshold": text_threshold},
        auth=auth,
        egress=egress,
    )
    regions = [region for region in prediction["result"] if region["type"] == "rectanglelabels"]
    regions = [r for r in regions if r["value"].get("rectanglelabels", [""])[0] in kept]
    prediction["result"] = [*regions]
    boxes = [to_box(region) for region in regions]
    draw_boxes(Image.fromarray(upright), boxes).save(output)
    json_output.write_text(json.dumps(prediction, indent=2, ensure_ascii=False) + "\n")
    table = Table("box", "left", "top", "right", "bottom")
    for box in boxes:
        table.add_row(box.text, *(f"{edge:.0f}" for edge in box.xyxy))
    _console.print(table)
    _console.print(f"{len(boxes)} boxes: {output}, {json_output}", highlight=False, soft_wrap=True)


def _names_in(prompt: str) -> dict[str, None]:
    """Labels that a prompt's phrases become, in order, without its negatives."""
    from prelabel.prompts.parser import split_prompt
    from prelabel.settings.application import AppSettings

    wanted = split_prompt(prompt, AppSettings().max_prompt_chars)
    return {each.label or each.phrase: None for each in wanted if not each.negative}


def _wait_for_service(
    url: str, auth: tuple[str, str] | None, egress: Egress, longest_s: float
) -> None:
    """With a line on stderr while it lasts: one that counts in a terminal, one in a log."""
    from prelabel.cli.service_start import wait_until_up

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    line = f"Waiting for the service at {escape(url)} to start"
    with ExitStack() as shown:
        status: Status | None = None

        def say(waited_s: float) -> None:
            nonlocal status
            if status is None:
                status = shown.enter_context(console.status(line))
                if not console.is_terminal:
                    console.print(f"{line}, for up to {longest_s:g} s ...")
            status.update(f"{line} ({waited_s:.0f} s) ...")

        wait_until_up(url, auth, egress, longest_s, say)


@app.command()
def models(models_dir: ModelsDir = Path("models")) -> None:
    """List the models that there are cards for."""
    from prelabel.checkpoints.cards import check_installed, list_cards, model_folder

    table = Table(Column("name", no_wrap=True), "model", "engine", "licence", "installed")
    for card in list_cards():
        try:
            check_installed(card, model_folder(card, models_dir))
            installed = "yes"
        except ModelError:
            installed = "no"
        table.add_row(card.name, card.title, card.engine, card.licence, installed)
    _console.print(table)


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="A name that `prelabel models` lists.")],
    models_dir: ModelsDir = Path("models"),
) -> None:
    """Fetch a model, verified; run it again to go on after an interruption."""
    from prelabel.checkpoints.cards import load_card
    from prelabel.checkpoints.download import download as fetch

    folder = fetch(load_card(name), models_dir)
    _console.print(
        f"{name} is in {folder}. Set `model: {name}` in serve_config.yaml.",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def preflight(
    config: ServeConfig = None,
) -> None:
    """Check what would keep the service from starting: settings, model, port."""
    from prelabel.cli.application import config_or_default
    from prelabel.cli.preflight import preflight as check
    from prelabel.settings.ray_environment import prepare_ray_environment

    prepare_ray_environment()
    check(config_or_default(config))


@app.command()
def serve(
    config: ServeConfig = None,
) -> None:
    """Run the service: the checks of `preflight`, then `serve run`. Ctrl-C or SIGTERM ends it,
    with all its processes.
    """
    from prelabel.cli.application import config_or_default, run_application
    from prelabel.cli.preflight import preflight as check
    from prelabel.settings.ray_environment import prepare_ray_environment

    prepare_ray_environment()
    config = config_or_default(config)
    check(config)
    raise typer.Exit(run_application(config))


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="A model that is installed.")] = "demo",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    models_dir: ModelsDir = Path("models"),
) -> None:
    """Measure what batches cost on this machine; propose the settings that follow."""
    from prelabel.checkpoints.cards import load_card, model_folder
    from prelabel.cli.calibrate import measure, propose
    from prelabel.detection.batching import MAX_BATCH_S
    from prelabel.engines import load_engine

    card = load_card(model)
    folder = model_folder(card, models_dir)
    engine = load_engine(card, folder, device=device, precision=precision)
    buckets = []
    for bucket in measure(engine):
        buckets.append(bucket)
        size, most, cost = _wh(bucket.resized_hw), max(bucket.seconds), bucket.cost
        _console.print(
            f"{_wh(bucket.picture_hw)} as {size}: a batch of n takes {cost.base_s * 1000:.0f} + "
            f"{cost.item_s * 1000:.0f} n ms: {cost.per_s(1):.1f} pictures/s one by one, "
            f"{cost.per_s(most):.1f} by {most}.",
            highlight=False,
            soft_wrap=True,
        )
    proposal = propose(buckets, MAX_BATCH_S)
    _console.print(
        "For serve_config.yaml, with nothing else running here while it was measured:\n"
        f"  args: max_batch_size: {proposal.max_batch_size}\n"
        "  Detector, autoscaling_config: "
        f"target_ongoing_requests: {proposal.target_ongoing_requests}",
        highlight=False,
        soft_wrap=True,
    )


def _wh(hw: tuple[int, int]) -> str:
    return f"{hw[1]}x{hw[0]}"


@app.command()
def connect(
    project: Annotated[int, typer.Option(min=1, help="Its number, as in /projects/NUMBER.")],
    url: Annotated[
        str, typer.Option(help="This service's address as Label Studio sees it.")
    ] = SERVICE_URL,
    title: Annotated[
        str | None, typer.Option(help="The model's name there; `prelabel` if unset and new.")
    ] = None,
    interactive: Annotated[
        bool, typer.Option(help="Boxes for prompts that annotators type.")
    ] = True,
) -> None:
    """Connect this service to a Label Studio project; again: update what is connected."""
    from prelabel.cli.connect import backend_form, open_label_studio
    from prelabel.cli.connect import connect as connect_backend
    from prelabel.cli.preflight import read_environment

    environment = read_environment()
    form = backend_form(url, environment, title=title, interactive=interactive)
    done = connect_backend(open_label_studio(environment), project, form)
    for line in done.report():
        _console.print(line, highlight=False, markup=False)


@app.command()
def doctor(
    url: Annotated[str, typer.Option(help="Where the service runs.")] = SERVICE_URL,
    project: Annotated[
        int | None, typer.Option(min=1, help="A project to examine, by its number.")
    ] = None,
    backend_url: Annotated[
        str | None, typer.Option(help="The service as Label Studio sees it; --url if unset.")
    ] = None,
) -> None:
    """Check the service, Label Studio, the token and a project; say what to repair."""
    from prelabel.cli.doctor import Examined, Status, examine
    from prelabel.cli.preflight import read_environment

    url = url.rstrip("/")
    examined = Examined(url, (backend_url or url).rstrip("/"), project, read_environment())
    counts = Counter[Status]()
    for finding in examine(examined):
        counts[finding.status] += 1
        _print_finding(finding)
    if project is None:
        _console.print("With --project N, a project and one of its pictures are checked, too.")
    faults = _counted(counts[Status.FAULT], "fault")
    warnings = _counted(counts[Status.WARNING], "warning")
    _console.print(f"{faults}, {warnings}.", highlight=False)
    if counts[Status.FAULT]:
        raise typer.Exit(1)


def _counted(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _print_finding(finding: Finding) -> None:
    """One row: columns of a fixed width, so that rows can be shown one by one."""
    row = Table.grid(Column(width=7), Column(width=17), Column(ratio=1), padding=(0, 1))
    style = _STYLES[finding.status.value]
    row.add_row(Text(finding.status.value, style), finding.check, Text(finding.sentence))
    _console.print(row)


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise ImageDecodeError(f"Cannot read {image}: {error.strerror}. Check its path.") from error

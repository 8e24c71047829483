"""The `prelabel` command: declares the subcommands and their options.

Each subcommand imports its work when it runs, so that `prelabel --help` does not load NumPy,
Pillow or torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from prelabel import __version__
from prelabel.cli import model_commands, project_commands
from prelabel.cli.completion import completion, prepare_completion
from prelabel.cli.demo_command import demo
from prelabel.cli.exit_status import FAILED
from prelabel.cli.options import (
    CONNECTION,
    PROJECTS_PANEL,
    SERVICE_PANEL,
    SHELL_PANEL,
    AsJson,
    Password,
    ServiceUrl,
    User,
    service_client,
)
from prelabel.cli.predict_options import (
    BoxThreshold,
    Concurrency,
    JsonFile,
    Labels,
    Masks,
    Opens,
    Output,
    Prompt,
    TextThreshold,
    Wait,
)
from prelabel.cli.terminal import (
    end_for_closed_output,
    open_terminal,
    print_json,
    print_line,
    print_paragraph,
)
from prelabel.errors import PrelabelError
from prelabel.net.origin import SERVICE_URL

_FIRST_STEPS = """\
Labelled boxes in Label Studio from a text prompt.

First steps:
  prelabel serve                                 start the service; leave it running
                                                 (try it at http://127.0.0.1:9090/playground)
  prelabel predict PICTURE --prompt "cat . dog"  see boxes on a picture
  prelabel connect --project 1                   connect a project of Label Studio
  prelabel demo --start                          or see three ready projects in Label Studio
  prelabel doctor --project 1                    find out why there are no boxes

prelabel --help lists all commands."""

_PREDICT_EXAMPLES = """\
Examples:

prelabel predict garden.jpg --prompt "cat . red star" --open

prelabel predict photos --output drawn --prompt "cat . dog" --box-threshold 0.4"""

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # paragraphs of the help are broken anew for the terminal
    epilog="Exit status: 0 done, 1 error, 2 wrong usage, 3 some failed, 130 stopped.",
)

ServeConfig = Annotated[
    Path | None,
    typer.Argument(help="Serve config file; ./serve_config.yaml if unset, or the shipped one."),
]


def main() -> None:
    """Run the command. A PrelabelError is printed without a traceback, with exit status 1."""
    prepare_completion()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        end_for_closed_output()
    except PrelabelError as error:
        print(f"prelabel: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(FAILED)


def _show_version(requested: bool) -> None:
    if requested:
        print_line(__version__, open_terminal())
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Labelled boxes in Label Studio from a text prompt."""
    if context.invoked_subcommand is None:
        print_line(_FIRST_STEPS, open_terminal())


@app.command(rich_help_panel=SERVICE_PANEL, epilog=_PREDICT_EXAMPLES)
def predict(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            metavar="PICTURE",
            help="Pictures (JPEG, PNG, WebP, AVIF, BMP, GIF, TIFF), or folders with all below.",
        ),
    ],
    prompt: Prompt,
    labels: Labels = None,
    box_threshold: BoxThreshold = None,
    text_threshold: TextThreshold = None,
    masks: Masks = False,
    output: Output = None,
    json_file: JsonFile = None,
    opens: Opens = False,
    url: ServiceUrl = SERVICE_URL,
    user: User = None,
    password: Password = None,
    wait: Wait = 60,
    concurrency: Concurrency = 4,
) -> None:
    """Detect objects in pictures and draw their boxes, and masks if asked for.

    Needs the running service. Writes the drawings, and the predictions as JSON. In a folder it
    reads the pictures of all folders below. Exits with status 3 if some pictures failed.
    """
    from prelabel.cli.predict import PredictOptions
    from prelabel.cli.predict import predict as predict_pictures
    from prelabel.settings import read_environment
    from prelabel.settings.environment import DesktopEnvironment

    options = PredictOptions(
        pictures,
        prompt,
        labels,
        output,
        json_file,
        box_threshold,
        text_threshold,
        masks,
        wait,
        concurrency,
        opens,
    )
    if options.fault:
        raise typer.BadParameter(options.fault)
    client = service_client(url, user, password, read_environment())
    raise typer.Exit(predict_pictures(options, client, DesktopEnvironment()))


@app.command(rich_help_panel=SERVICE_PANEL, epilog="Example: prelabel preflight my_config.yaml")
def preflight(config: ServeConfig = None, json_output: AsJson = False) -> None:
    """Check settings, model, prompt store and ports without starting the service."""
    from prelabel.cli.application import checked_config
    from prelabel.cli.preflight import summary_of

    summary = summary_of(checked_config(config))
    if json_output:
        print_json(summary.facts())
    else:
        console = open_terminal()
        for sentence in (*summary.warnings, summary.sentence()):
            print_paragraph(sentence, console)


@app.command(rich_help_panel=SERVICE_PANEL, epilog="Example: prelabel serve my_config.yaml")
def serve(config: ServeConfig = None) -> None:
    """Run the service.

    Runs the checks of `preflight`, then `serve run`. Ctrl-C or SIGTERM ends the service with all
    its processes.
    """
    from prelabel.cli.application import checked_config, run_application

    raise typer.Exit(run_application(checked_config(config)))


@app.command(
    rich_help_panel=SERVICE_PANEL,
    epilog="Example: prelabel doctor --project 1 --backend-url http://prelabel:9090",
)
def doctor(
    url: ServiceUrl = SERVICE_URL,
    project: Annotated[
        int | None, typer.Option(min=1, help="Number of a project to check as well.")
    ] = None,
    backend_url: Annotated[
        str | None,
        typer.Option(
            help="Address of the service as Label Studio reaches it. Default: --url.",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    json_output: AsJson = False,
) -> None:
    """Diagnose the connection between Label Studio and the service.

    Checks the service, this machine, Label Studio and the token; with --project also a project and
    one of its pictures. Prints how to repair each fault. Exits with status 1 if there are faults.
    """
    from prelabel.cli.doctor import print_report
    from prelabel.cli.doctor_checks import DoctorContext
    from prelabel.settings import read_environment

    url = url.rstrip("/")
    context = DoctorContext(url, (backend_url or url).rstrip("/"), project, read_environment())
    if not print_report(context, open_terminal(), json_output=json_output):
        raise typer.Exit(FAILED)


model_commands.add_to(app)  # here, because --help lists the commands in this order


@app.command(rich_help_panel=PROJECTS_PANEL, epilog="Example: prelabel connect --project 1")
def connect(
    project: Annotated[int, typer.Option(min=1, help="Number of the project: /projects/NUMBER.")],
    url: Annotated[
        str,
        typer.Option(
            help="Address of the service as Label Studio reaches it.", rich_help_panel=CONNECTION
        ),
    ] = SERVICE_URL,
    title: Annotated[
        str | None,
        typer.Option(help="Name of the model in Label Studio. Default for a new one: prelabel."),
    ] = None,
    interactive: Annotated[
        bool, typer.Option(help="Interactive preannotations: boxes for typed prompts.")
    ] = True,
    json_output: AsJson = False,
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
    if json_output:
        print_json(connected.facts())
        return
    for paragraph in connected.report():
        print_paragraph(paragraph, open_terminal())


project_commands.add_to(app)
app.command(rich_help_panel=PROJECTS_PANEL, epilog="Example: prelabel demo --start --port 9091")(
    demo
)
app.command(
    rich_help_panel=SHELL_PANEL,
    epilog="Example, for the present shell: source <(prelabel completion bash)",
)(completion)

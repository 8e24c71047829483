"""Declares the options of `prelabel annotate --input`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prelabel.cli.terminal import open_terminal

_PANEL = "Pictures that are in no project"

Input = Annotated[
    str | None,
    typer.Option(
        help="Pictures that are in no project: a folder, s3://BUCKET/PREFIX, or a .jsonl, .json or "
        ".parquet file of tasks.",
        rich_help_panel=_PANEL,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        help="Folder of the results, or a bucket with --ray; run again to continue.",
        rich_help_panel=_PANEL,
    ),
]
Formats = Annotated[
    str,
    typer.Option(
        help="Formats beside jsonl, comma-separated: parquet, coco, yolo.", rich_help_panel=_PANEL
    ),
]
Labels = Annotated[
    str | None, typer.Option(help="Labels to search for, comma-separated.", rich_help_panel=_PANEL)
]
LabelConfig = Annotated[
    Path | None,
    typer.Option(help="File with a labeling config, in place of --labels.", rich_help_panel=_PANEL),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        help="Start of the pictures' addresses in the written tasks.", rich_help_panel=_PANEL
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help="Serve config file with the settings of the model.", rich_help_panel=_PANEL),
]
OnRay = Annotated[
    bool,
    typer.Option("--ray", help="Run on a Ray cluster, past one machine.", rich_help_panel=_PANEL),
]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="The cluster, as in `auto`. Default: a Ray of its own.",
        rich_help_panel=_PANEL,
    ),
]
Engines = Annotated[
    int | None,
    typer.Option(min=1, help="Most engines at a time with --ray.", rich_help_panel=_PANEL),
]
Block = Annotated[
    int, typer.Option(min=1, help="Pictures that an engine gets at a time.", rich_help_panel=_PANEL)
]


def annotate_input(
    input: Input = None,  # noqa: A002 - the name of the option
    output: Output = None,
    format: Formats = "jsonl",  # noqa: A002 - the name of the option
    labels: Labels = None,
    prompt: str | None = None,
    label_config: LabelConfig = None,
    project: int | None = None,
    box_threshold: float | None = None,
    text_threshold: float | None = None,
    address_prefix: Prefix = None,
    config: Config = None,
    ray: OnRay = False,
    address: Address = None,
    engines: Engines = None,
    block: Block = 500,
    dry_run: bool = False,
    failed: bool = False,
    retry_failed: bool = False,
    json_output: bool = False,
) -> None:
    """Predict pictures that are in no project, in this process.

    Options without a declaration here are those of the other mode (`two_modes`).
    """
    from prelabel.cli.annotate_input import annotate_input as annotate
    from prelabel.cli.input_plan import InputOptions
    from prelabel.offline.exports import Format
    from prelabel.settings import read_environment

    names = [name.strip() for name in format.split(",") if name.strip()]
    if unknown := sorted(set(names) - set(Format)):
        raise typer.BadParameter(f"--format {unknown[0]}: write {', '.join(Format)}.")
    if input is None or output is None:
        raise typer.BadParameter("--input needs --output.")
    options = InputOptions(
        input=input,
        output=output,
        formats=tuple(Format(name) for name in names),
        labels=labels,
        prompt=prompt,
        label_config=label_config,
        project=project,
        box_threshold=box_threshold,
        text_threshold=text_threshold,
        address_prefix=address_prefix,
        config=config,
        dry_run=dry_run,
        failed=failed,
        retry_failed=retry_failed,
        json_output=json_output,
        ray=ray,
        address=address,
        engines=engines,
        block=block,
    )
    raise typer.Exit(annotate(options, read_environment(), open_terminal()))

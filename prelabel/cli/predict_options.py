"""The options of `prelabel predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from prelabel.cli.options import CONNECTION, OUTPUT

_WHAT: Final = "What to look for"
_SHARE: Final = "NUMBER"

Prompt = Annotated[
    str,
    typer.Option(
        metavar="TEXT", help='What to detect, as in "cat . red star".', rich_help_panel=_WHAT
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Labels to keep, comma-separated. Default: all of the prompt.",
        rich_help_panel=_WHAT,
    ),
]
BoxThreshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar=_SHARE,
        help="Lowest score of a box. Default: the service's setting.",
        rich_help_panel=_WHAT,
    ),
]
TextThreshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar=_SHARE,
        help="Lowest mean score of a phrase. Default: the service's.",
        rich_help_panel=_WHAT,
    ),
]
Masks = Annotated[bool, typer.Option(help="Draw the objects' masks, too.", rich_help_panel=_WHAT)]
Output = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Folder of the results; or, for one picture, the file of the drawing. Default: "
        "PICTURE_prelabel.png beside each picture.",
        rich_help_panel=OUTPUT,
    ),
]
JsonFile = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="File of the prediction of one picture; - prints a line of JSON for each picture. "
        "Default: PICTURE_prelabel.json beside the drawing.",
        rich_help_panel=OUTPUT,
    ),
]
Opens = Annotated[
    bool,
    typer.Option(
        "--open", help="Show the drawing, or the folder of several.", rich_help_panel=OUTPUT
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Longest wait for a service that is starting or busy.",
        rich_help_panel=CONNECTION,
    ),
]
Concurrency = Annotated[
    int,
    typer.Option(
        min=1,
        max=64,
        metavar="NUMBER",
        help="Greatest number of requests at a time.",
        rich_help_panel=CONNECTION,
    ),
]

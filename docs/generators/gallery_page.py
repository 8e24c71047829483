"""The gallery of labeling configs, from docs/user/gallery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.paths import ROOT

FOLDER = ROOT / "docs" / "user" / "gallery"


@dataclass(frozen=True)
class Entry:
    """A config of the gallery: its files' name, a heading, and a text that says what it does."""

    name: str
    heading: str
    text: str
    shown: str

    @property
    def config(self) -> str:
        """The labeling config."""
        return (FOLDER / f"{self.name}.xml").read_text(encoding="utf-8")


ENTRIES = (
    Entry(
        "prompts",
        "Free prompts",
        "The annotator types what to look for and presses *Add*. Phrases find their labels; "
        "others get grey boxes. [Prompts](prompts.md) has the rules.",
        "The prompt frog, horse, sunflower gave three boxes",
    ),
    Entry(
        "labels",
        "Fixed labels",
        "No prompt: the labels are what the model looks for, in bulk or when a task is opened.",
        "A street with boxes of the labels",
    ),
    Entry(
        "aliases",
        "Aliases, and other words for a label",
        "`predicted_values` names what the model looks for instead of the label, `negative_values` "
        "what must not be taken for it, and regions carry the `alias`.",
        "A farm with boxes of three labels; fox and cow are animals",
    ),
    Entry(
        "thresholds",
        "A threshold for the annotator",
        'A `<Number>` with "threshold" in its name sets the lowest score of a box. It applies when '
        "the next prompt is sent. [Thresholds](thresholds.md) shows what it does.",
        "A prompt with the threshold 0.35",
    ),
    Entry(
        "brush",
        "Boxes and brushes",
        "Two controls with the same labels: each object gets its box and its mask. "
        "[Masks](masks.md) compares the forms.",
        "Horse, frog and palm tree with boxes and brushes",
    ),
    Entry(
        "polygon",
        "Polygons alone",
        "Without a control for boxes, only outlines come back. Annotators can move their corners.",
        "A beach with outlines of the objects",
    ),
    Entry(
        "bitmask",
        "Bitmasks alone",
        "Pixel by pixel, with holes, and faster on the page than brushes.",
        "A night with bitmasks of the objects",
    ),
    Entry(
        "clicks",
        "Clicks",
        "Choose the smart tool, press the key of a label and click on an object: its mask and its "
        "box come back. No text is needed.",
        "A click on the palm tree gave its mask and box",
    ),
    Entry(
        "repeater",
        "Several pictures, a control for each",
        "A `<Repeater>` repeats its tags for each item of the task's list: "
        '`{"pages": [{"image": "..."}, {"image": "..."}]}`.',
        "Two pictures below each other, each with its boxes",
    ),
    Entry(
        "list",
        "Several pictures, one control",
        "With `valueList`, annotators turn the pages of one `<Image>`: "
        '`{"pages": ["...", "..."]}`. A prompt searches each page.',
        "The first of two pages with its boxes",
    ),
    Entry(
        "humansignal-grounding-dino",
        "HumanSignal's config for grounding_dino",
        "It works unchanged. `<Style>` shows a text while Label Studio waits for the boxes.",
        "The prompt cat, house gave the box of a cat",
    ),
    Entry(
        "humansignal-grounding-sam",
        "HumanSignal's config for grounding_sam",
        "It works unchanged, too: boxes and brushes from one prompt.",
        "The prompt cat, house gave box and brush of a cat",
    ),
)


def page() -> str:
    """Return the entries in Markdown."""
    return "\n".join(line for entry in ENTRIES for line in _section(entry))


def _section(entry: Entry) -> Iterator[str]:
    yield f"## {entry.heading}"
    yield ""
    yield entry.text
    yield ""
    yield '<div class="exhibit" markdown>'
    yield ""
    yield "```xml"
    yield entry.config.rstrip()
    yield "```"
    yield ""
    yield f"![{entry.shown}](gallery/{entry.name}.webp)"
    yield ""
    yield "</div>"
    yield ""

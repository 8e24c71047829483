"""Which prompt and thresholds apply, and what a prompt says."""

from __future__ import annotations

import re
from collections.abc import Collection

from prelabel.errors import PromptError
from prelabel.types import Asked

_PHRASE_END = ".,;\\n\\r"


def what_applies(
    *, context: Asked, drafts: Asked, remembered: Asked, config: Asked, settings: Asked
) -> Asked:
    """The one precedence, value by value.

    What the annotator just typed, what stands in the task's drafts, what the project's newest
    annotation said, what the labeling config says, the service's settings.
    """
    return context.or_else(drafts).or_else(remembered).or_else(config).or_else(settings)


def split_prompt(prompt: str, max_chars: int, names: Collection[str] = ()) -> tuple[str, ...]:
    """The phrases of a prompt: "cat . red star\\n" -> ("cat", "red star").

    Phrases end at ".", ",", ";" and line ends, except inside one of the `names`: with the label
    "St. Bernard", "st. bernard, cat" has two phrases. Raises PromptError for a prompt that is too
    long.
    """
    if len(prompt) > max_chars:
        raise PromptError(f"The prompt is longer than {max_chars} characters. Shorten it.")
    whole = sorted((n for n in names if re.search(f"[{_PHRASE_END}]", n)), key=len, reverse=True)
    phrase = "|".join([*map(re.escape, whole), f"[^{_PHRASE_END}]+"])
    found = re.findall(rf"\s*({phrase})\s*(?:[{_PHRASE_END}]|$)", prompt, re.IGNORECASE)
    parts = (" ".join(part.split()) for part in found)
    return tuple(dict.fromkeys(part for part in parts if part))

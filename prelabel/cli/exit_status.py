"""The exit statuses of all commands; docs/user/commands.md lists them."""

from __future__ import annotations

from typing import Final

FINISHED: Final = 0
FAILED: Final = 1  # an error, in a sentence on the standard error; doctor: a fault
WRONG_USAGE: Final = 2  # an unknown command or option, or a wrong value
SOME_FAILED: Final = 3  # the rest is done
STOPPED: Final = 130  # Ctrl-C, or items are left: the same command continues
OUTPUT_CLOSED: Final = 141  # the reader of the output has ended, as with `| head`

MEANINGS: Final = {
    FINISHED: "Done.",
    FAILED: "An error; the sentence on the standard error says what to do. doctor: a fault.",
    WRONG_USAGE: "An unknown command or option, a missing or a wrong value.",
    SOME_FAILED: "predict, annotate: some pictures or tasks failed, and the rest is done.",
    STOPPED: "Stopped by Ctrl-C. annotate: items are left, and the same command continues.",
    OUTPUT_CLOSED: "The reader of the output has ended, as `head` does after ten lines.",
}

"""Training of the embedded demo models. The service imports nothing from here."""

from pathlib import Path

WORK = Path(__file__).resolve().with_name("work")  # icons, states, checkpoints; not in git

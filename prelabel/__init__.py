"""Text prompts to labelled boxes in Label Studio: the library behind the Ray Serve application."""

__version__ = "0.1.0"

"""The type of the fixture that loads the demo checkpoint."""

from collections.abc import Callable

from prelabel.engines.torch_engine import TorchEngine

# Takes the names of an engine and of a precision.
EngineFactory = Callable[[str, str], TorchEngine]

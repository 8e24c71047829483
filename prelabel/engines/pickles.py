"""Reading of .pth and .bin files (pickles) without running code from them.

Training programs save their arguments and logs beside the weights, and
`torch.load(weights_only=True)` refuses such files. Here the types that are known to hold plain data
are read into stand-ins: no class or function of a third party is imported or called. Every other
type is refused.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Final

import torch

from prelabel.errors import ModelError


class _Ignored:
    """Stand-in for an object whose content is not needed; drops all of it."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# Types in checkpoints of: DETR's descendants, among them Open-GroundingDino (argparse, pathlib,
# slconfig); MMEngine and MMCV (HistoryBuffer and its NumPy arrays); Lightning (AttributeDict);
# PyTorch's OneCycleLR before 2.0, which stores a method of its own (getattr).
_IGNORED: Final = (
    "argparse.Namespace",
    "builtins.getattr",
    "mmengine.config.config.Config",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    *(
        f"{module}.{name}"
        for module in ("pathlib", "pathlib._local")  # the second one in Python 3.13
        for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    ),
    "torch.optim.lr_scheduler.OneCycleLR",
)
_DICTIONARIES: Final = (
    "addict.addict.Dict",
    "groundingdino.util.slconfig.ConfigDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "util.slconfig.ConfigDict",
)
# Every exception that the unpickler raised in tests, or can raise, on damaged and hostile files.
_ERRORS: Final = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    struct.error,
)
_REFUSED: Final = re.compile(r"GLOBAL ([\w.]+)|is blocked|unrecognized function|Can only ")


def read_pickle(path: Path) -> object:
    """Read a pickle with its tensors on the CPU.

    Raises:
        ModelError: The file is damaged, or holds anything but tensors and plain data.
    """
    # `safe_globals` takes pairs of a stand-in and the name of the type, which its annotation does
    # not say, and removes them again at the end.
    stand_ins = [(_Ignored, name) for name in _IGNORED]
    dictionaries = [(OrderedDict, name) for name in _DICTIONARIES]
    try:
        with torch.serialization.safe_globals([*stand_ins, *dictionaries]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _ERRORS as error:
        raise ModelError(_message(path.name, str(error))) from error


def _message(name: str, reason: str) -> str:
    refused = _REFUSED.search(reason)
    if refused is None:
        return f"{name} is damaged, or not written by torch.save. Copy or download it again."
    kind = f" ({refused[1]})" if refused[1] else ""
    return (
        f"{name} holds more than weights{kind} and was not loaded, because such a file can run "
        "code. Save the model's state_dict alone, or use the authors' file."
    )

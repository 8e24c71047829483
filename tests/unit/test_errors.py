import inspect
import pickle
import re

import pytest

from prelabel import errors

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.PrelabelError)
]


def test_the_drawn_tree_is_complete_and_its_statuses_are_true() -> None:
    drawn = dict(re.findall(r"(\w+Error) +(\d{3})", errors.__doc__ or ""))
    assert drawn == {cls.__name__: str(cls.status_code) for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_errors_travel_between_processes_unchanged(cls: type[errors.PrelabelError]) -> None:
    copy = pickle.loads(pickle.dumps(cls("A sentence.")))
    assert (type(copy), str(copy)) == (cls, "A sentence.")

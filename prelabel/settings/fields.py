"""Declaration of settings, and iteration over those of a model and of its groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

_CHANGES_PREDICTIONS: Final = "changes_predictions"


class SettingsGroup(BaseModel):
    """A frozen group of settings that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Setting(NamedTuple):
    """A declared setting with its value.

    path: the names of the group and of the field, such as `detection.box_threshold`;
    changes_predictions: None if the field's declaration does not say it.
    """

    path: str
    value: Any
    field: FieldInfo
    changes_predictions: bool | None


def setting(
    default: object,
    *,
    changes_predictions: bool,
    description: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    max_length: int | None = None,
) -> Any:
    """Declare a setting.

    Args:
        changes_predictions: True if another value can change a prediction. The value is then part
            of the model version, so that Label Studio requests the predictions again.
        description: Text for docs/operator/settings.md.
        ge, gt, le, max_length: Bounds, as for pydantic's Field.
    """
    return Field(
        default,
        description=description,
        ge=ge,
        gt=gt,
        le=le,
        max_length=max_length,
        json_schema_extra={_CHANGES_PREDICTIONS: changes_predictions},
    )


def iterate_settings(settings: BaseModel, prefix: str = "") -> Iterator[Setting]:
    """Yield all settings of a model and of its groups, in the order of their declaration."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, SettingsGroup):
            yield from iterate_settings(value, f"{prefix}{name}.")
        else:
            extra = field.json_schema_extra
            declared = extra.get(_CHANGES_PREDICTIONS) if isinstance(extra, dict) else None
            changes = declared if isinstance(declared, bool) else None
            yield Setting(f"{prefix}{name}", value, field, changes)

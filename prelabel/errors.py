"""The exceptions of the service, each with its HTTP status.

    PrelabelError                500
    ├── RequestError             422  a body without the form that Label Studio sends
    │   ├── MissingFieldError    400  a body without a field that the route needs
    │   ├── LabelingConfigError  422  a labeling config without a control for boxes
    │   └── PromptError          422  a prompt that cannot become a caption
    ├── UnauthorizedError        401  missing or wrong basic auth
    ├── PayloadTooLargeError     413  a request with too many bytes or tasks
    ├── ImageError               422  a picture that cannot be used
    │   ├── ImageAddressError    403  an address this service must not contact
    │   ├── ImageFetchError      502  a picture that did not arrive
    │   │   └── ImageUnavailableError  502  its server is away, too slow or overloaded
    │   │       └── ImageServerError   502  its server fails on this picture
    │   └── ImageDecodeError     422  bytes that are not a picture, or too large a one
    ├── ModelError               503  a checkpoint that is missing, damaged or does not fit its card
    ├── DeviceError              503  the configured device is not available
    ├── DetectionError           500  the model failed on this item
    │   └── DeviceMemoryError    500  this item exceeds the device's memory, even alone
    ├── SettingsError            500  a setting or a variable of the environment has a wrong value
    ├── OverloadedError          503  the queue is full
    ├── LabelStudioError         502  a refused or unanswered request to Label Studio's API
    ├── ProxyError               502  an HTTP proxy that cannot be reached, or refuses
    ├── PromptMemoryError        503  the store of remembered prompts cannot be used
    ├── JournalError             503  the journal of errors and counts cannot be reached
    └── DeadlineError            504  not finished before the deadline

Every exception takes one string, the sentence that the user reads: the fault with its value, then
what to do. The single argument also keeps the exceptions picklable between Ray actors.
"""

from __future__ import annotations

from typing import ClassVar

# Characters of a long sentence that remain: its start names the fault, its end says what to do.
_START, _END = 500, 200


class PrelabelError(Exception):
    """Root of the tree. `str(error)` is safe to show: no traceback, server path or token."""

    status_code: ClassVar[int] = 500

    def __init__(self, message: str) -> None:
        if len(message) > _START + _END:  # the message quotes input of any length
            message = f"{message[:_START]}...{message[-_END:]}"
        super().__init__(message)


class RequestError(PrelabelError):
    """The request's body does not have the form that Label Studio sends."""

    status_code = 422


class MissingFieldError(RequestError):
    """The request's body lacks a required field; 400, as in label-studio-ml."""

    status_code = 400


class LabelingConfigError(RequestError):
    """The labeling config cannot be parsed, or has no control for boxes."""


class PromptError(RequestError):
    """The prompt cannot become a caption."""


class UnauthorizedError(PrelabelError):
    """Basic auth is configured, and the request's credentials are missing or wrong."""

    status_code = 401


class PayloadTooLargeError(PrelabelError):
    """The request has more bytes or more tasks than are allowed."""

    status_code = 413


class ImageError(PrelabelError):
    """One picture cannot be used; the other tasks of its request are not affected."""

    status_code = 422


class ImageAddressError(ImageError):
    """The picture's address must not be contacted."""

    status_code = 403


class ImageFetchError(ImageError):
    """The picture did not arrive: refused, not found, too slow or too large."""

    status_code = 502


class ImageUnavailableError(ImageFetchError):
    """The picture's server is away, too slow or overloaded. A later try may succeed."""


class ImageServerError(ImageUnavailableError):
    """The picture's server answers with status 500. For this picture it may always do so."""


class ImageDecodeError(ImageError):
    """The bytes are damaged, not a picture of an allowed format, or have too many pixels."""


class ModelError(PrelabelError):
    """The checkpoint is missing, damaged, or does not fit its card."""

    status_code = 503


class DeviceError(PrelabelError):
    """The configured device is not available."""

    status_code = 503


class DetectionError(PrelabelError):
    """The model failed on this item."""


class DeviceMemoryError(DetectionError):
    """The batch exceeds the device's memory; the gate runs it again in halves."""


class SettingsError(PrelabelError):
    """A setting or a variable of the environment has a wrong value."""


class OverloadedError(PrelabelError):
    """The detectors' queue is full."""

    status_code = 503


class LabelStudioError(PrelabelError):
    """Label Studio's API refused a request, or did not answer."""

    status_code = 502


class ProxyError(PrelabelError):
    """The HTTP proxy that the environment names cannot be reached, or refuses."""

    status_code = 502


class PromptMemoryError(PrelabelError):
    """The store of remembered prompts cannot be used."""

    status_code = 503


class JournalError(PrelabelError):
    """The journal of counts and errors cannot be reached."""

    status_code = 503


class DeadlineError(PrelabelError):
    """The work was not finished before the request's deadline."""

    status_code = 504

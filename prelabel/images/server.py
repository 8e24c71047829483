"""The server that an image request goes to, and the error messages about it.

No message contains the URL's path or query, which can hold a signature, nor text of the server.
"""

from __future__ import annotations

from dataclasses import dataclass

from prelabel.errors import (
    ImageAddressError,
    ImageFetchError,
    ImageServerError,
    ImageUnavailableError,
)
from prelabel.net.origin import Origin
from prelabel.net.proxies import Proxy
from prelabel.net.public_addresses import BAD_PORTS, is_noncanonical_ipv4
from prelabel.net.transport import Watchdog

_INTERNAL_ERROR = 500


@dataclass(frozen=True, slots=True)
class Server:
    """The server of a picture.

    Attributes:
        origin: Scheme, host and port.
        is_label_studio: The server is Label Studio itself, which gets the token.
        may_be_private: Private and local addresses are allowed for this server.
        proxy: The proxy that requests go through; None for a direct connection.
    """

    origin: Origin
    is_label_studio: bool
    may_be_private: bool
    proxy: Proxy | None = None

    def __str__(self) -> str:
        return f"Label Studio ({self.origin})" if self.is_label_studio else str(self.origin)

    def check_spelling(self) -> None:
        """Raise ImageAddressError for a host or port that other programs may read differently."""
        if self.may_be_private:
            return
        if is_noncanonical_ipv4(self.origin.host):
            raise ImageAddressError(
                f"{self} is an IP address in an unusual form; write it as four decimal numbers."
            )
        if self.origin.port in BAD_PORTS:
            raise ImageAddressError(
                f"{self} has the port of another protocol, which browsers refuse as well; serve "
                "the picture from another port."
            )

    def private_address_error(self) -> ImageAddressError:
        """Return the error for a server whose address is private or local."""
        return ImageAddressError(
            f"{self} has a private or local address, which is not contacted; if it may "
            f"serve pictures, add {self.origin} to ALLOWED_IMAGE_HOSTS."
        )

    def unresolved_name_error(self) -> ImageAddressError:
        """Return the error for a host name that only the proxy can resolve.

        Such a name could mean an address inside the proxy's network.
        """
        return ImageAddressError(
            f"The host name of {self} does not resolve here, so it cannot be checked that "
            f"{self.proxy} would not connect to a private address; add {self.origin.netloc_host} "
            "to ALLOWED_IMAGE_HOSTS, or set images.proxy_resolves_names if that proxy blocks "
            "private addresses."
        )

    def unreachable_error(self, reason: str) -> ImageUnavailableError:
        """Return the error for a failed connection. reason: a clause without a full stop."""
        check = "LABEL_STUDIO_HOST" if self.is_label_studio else "the picture's address"
        return ImageUnavailableError(f"{self} cannot be reached: {reason}; check {check}.")

    def timeout_error(self, watchdog: Watchdog) -> ImageUnavailableError:
        """Return the error for a picture that did not arrive within the watchdog's time."""
        return ImageUnavailableError(
            f"{self} did not send the picture within {watchdog.total_s:.3g} s; "
            "try again, make the picture smaller or raise images.fetch_timeout_s."
        )

    def status_error(self, status: int, *, has_token: bool) -> ImageFetchError:
        """Return the error for an HTTP status other than 2xx: ImageUnavailableError if it may pass.

        has_token: the request carried Label Studio's token.
        """
        message = self._status_message(status, has_token)
        # A proxy that forwards http may itself be the sender of the status. https is tunnelled.
        if self.proxy is not None and self.origin.scheme != "https":
            message = f"{message} The request went through {self.proxy}."
        if status == _INTERNAL_ERROR:
            return ImageServerError(message)
        fault = ImageUnavailableError if _may_pass(status) else ImageFetchError
        return fault(message)

    def _status_message(self, status: int, has_token: bool) -> str:
        if status in (401, 403) and self.is_label_studio:
            if has_token:
                return f"{self} refuses the token (HTTP {status}); check LABEL_STUDIO_ACCESS_TOKEN."
            return f"{self} requires a token (HTTP {status}); set LABEL_STUDIO_ACCESS_TOKEN."
        if status in (401, 403):
            return (
                f"{self} does not give the picture without a login (HTTP {status}); make it "
                "public, or connect its storage to Label Studio."
            )
        if _may_pass(status):
            message = f"{self} cannot give the picture now (HTTP {status}); try again later."
            if status == _INTERNAL_ERROR and self.is_label_studio:
                message += " Label Studio 1.23 also answers so if it has no such upload."
            return message
        return f"{self} has no picture at its address (HTTP {status}); check the picture's address."


def _may_pass(status: int) -> bool:
    """Return True for the HTTP statuses of a server that is away, overloaded or defect."""
    return status in (408, 429) or status >= 500

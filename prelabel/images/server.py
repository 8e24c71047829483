"""Whom a request for a picture goes to, and the sentences about it. None says path, query or what
the server said.
"""

from __future__ import annotations

from dataclasses import dataclass

from prelabel.errors import ImageAddressError, ImageFetchError
from prelabel.net.origin import Origin
from prelabel.net.proxies import Proxy
from prelabel.net.public_addresses import BAD_PORTS, is_noncanonical_ipv4
from prelabel.net.transport import Watchdog


@dataclass(frozen=True, slots=True)
class Server:
    """A picture's server. proxy: that is asked in its place; None where it is reached directly."""

    origin: Origin
    is_label_studio: bool
    may_be_private: bool
    proxy: Proxy | None = None

    def __str__(self) -> str:
        return f"Label Studio ({self.origin})" if self.is_label_studio else str(self.origin)

    def check_spelling(self) -> None:
        """Raise ImageAddressError for what other programs may read as another address."""
        if self.may_be_private:
            return
        if is_noncanonical_ipv4(self.origin.host):
            raise ImageAddressError(
                f"{self} is an IP address in an unusual form; write it as four decimal numbers."
            )
        if self.origin.port in BAD_PORTS:
            raise ImageAddressError(
                f"{self} has the port of another protocol, from where browsers show no picture "
                "either; serve the picture from another port."
            )

    def is_private(self) -> ImageAddressError:
        """The error for an inside address."""
        return ImageAddressError(
            f"{self} has a private or local address, which is not contacted; if it may "
            f"serve pictures, add {self.origin} to ALLOWED_IMAGE_HOSTS."
        )

    def is_known_to_the_proxy_alone(self) -> ImageAddressError:
        """The error for a name of which it cannot be checked that it is not inside."""
        return ImageAddressError(
            f"The name of {self} is not known here, so it cannot be checked that {self.proxy} "
            f"would not lead inside; add {self.origin.netloc_host} to ALLOWED_IMAGE_HOSTS, or set "
            "images.proxy_resolves_names if that proxy lets nothing through to inside addresses."
        )

    def unreachable(self, reason: str) -> ImageFetchError:
        """The error for a server to which there is no connection."""
        check = "LABEL_STUDIO_HOST" if self.is_label_studio else "the picture's address"
        return ImageFetchError(f"{self} cannot be reached: {reason}; check {check}.")

    def too_slow(self, watchdog: Watchdog) -> ImageFetchError:
        """The error for a server that took too long."""
        return ImageFetchError(
            f"{self} did not send the picture within {watchdog.total_s:.3g} s; "
            "try again, make the picture smaller or raise images.fetch_timeout_s."
        )

    def refusal(self, status: int, *, has_token: bool) -> str:
        """The sentence for an HTTP status other than 2xx."""
        if self.proxy is None or self.origin.scheme == "https":
            return self._refusal(status, has_token)
        return f"{self._refusal(status, has_token)} It was asked through {self.proxy}."

    def _refusal(self, status: int, has_token: bool) -> str:
        if status in (401, 403) and self.is_label_studio:
            if has_token:
                return f"{self} refuses the token (HTTP {status}); check LABEL_STUDIO_ACCESS_TOKEN."
            return f"{self} wants a token (HTTP {status}); set LABEL_STUDIO_ACCESS_TOKEN."
        if status in (401, 403):
            return (
                f"{self} does not give the picture to everyone (HTTP {status}); make it public, "
                "or connect its storage to Label Studio."
            )
        if status == 429 or status >= 500:
            return f"{self} cannot give the picture now (HTTP {status}); try again later."
        return f"{self} has no picture there (HTTP {status}); check the picture's address."

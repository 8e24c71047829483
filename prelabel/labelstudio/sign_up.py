"""Signs a user up at a Label Studio, as its page does, and makes the user's access token."""

from __future__ import annotations

from typing import Final

import requests
from pydantic import BaseModel, Field, SecretStr, ValidationError

from prelabel.errors import LabelStudioError
from prelabel.labelstudio.http import TIMEOUTS_S, UnreachableError
from prelabel.net.egress import Egress

_CSRF_COOKIE: Final = "csrftoken"


class _Token(BaseModel):
    token: str = Field(min_length=1)


def sign_up(url: str, user: str, password: SecretStr, egress: Egress) -> SecretStr:
    """Create a user and return a personal access token of that user.

    Args:
        url: Label Studio's address.
        user: E-mail address that no user has yet.
        password: The user's password.
        egress: Proxies and certificates.

    Raises:
        UnreachableError: Label Studio does not answer.
        LabelStudioError: It does not create the user, or gives no token.
    """
    url = url.rstrip("/")
    try:
        with egress.session(url, TIMEOUTS_S[0]) as session:
            page = f"{url}/user/signup/"
            csrf = _csrf(session, session.get(page, timeout=TIMEOUTS_S))
            form = {
                "email": user,
                "password": password.get_secret_value(),
                "csrfmiddlewaretoken": csrf,
            }
            answer = session.post(page, data=form, timeout=TIMEOUTS_S, allow_redirects=False)
            if not answer.is_redirect:  # the page again, with the reason in prose
                raise LabelStudioError(
                    f"{url} does not sign {user} up: it has that user already, or admits users "
                    "with an invitation only. Set LABEL_STUDIO_ACCESS_TOKEN to a token of one of "
                    "its users instead."
                )
            headers = {"X-CSRFToken": session.cookies.get(_CSRF_COOKIE) or csrf, "Referer": url}
            answer = session.post(f"{url}/api/token/", headers=headers, timeout=TIMEOUTS_S)
    except requests.RequestException:  # which may quote the password
        raise UnreachableError(f"{url} does not answer. Check if Label Studio runs.") from None
    try:
        return SecretStr(_Token.model_validate_json(answer.content).token)
    except ValidationError:
        raise LabelStudioError(
            f"{url} signed {user} up and gives no token (HTTP {answer.status_code}). Log in, make "
            "a token under Account & Settings, and set LABEL_STUDIO_ACCESS_TOKEN to it."
        ) from None


def _csrf(session: requests.Session, page: requests.Response) -> str:
    csrf = session.cookies.get(_CSRF_COOKIE)
    if not page.ok or not csrf:
        raise LabelStudioError(
            f"The server at {page.url} has no page to sign up, as Label Studio has. Check "
            "LABEL_STUDIO_HOST."
        )
    return str(csrf)

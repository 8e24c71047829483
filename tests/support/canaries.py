"""Secrets that are easy to find again, and their parts."""

import base64

from tests.support.tokens import jwt

LEGACY = "canary-legacy-0123456789abcdef01234567"
PERSONAL = jwt(token_type="refresh", exp=8_000_000_000, iat=1, jti="canary-personal")
ACCESS = jwt(token_type="access", exp=8_000_000_000, iat=1, jti="canary-access")
USER, PASSWORD = "annotator", "canary-password"
REDIS_PASSWORD = "canary-redis"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
CANARIES: tuple[str, ...] = (LEGACY, PERSONAL, ACCESS, PASSWORD, REDIS_PASSWORD, BASIC, "canary")
# Parts of a JSON web token are secrets, too, and may be cut or escaped differently.
CANARIES += (*PERSONAL.split(".")[1:2], *ACCESS.split(".")[1:2])


def found_in(text: object) -> list[str]:
    return [canary for canary in CANARIES if canary in str(text)]

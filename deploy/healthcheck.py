"""Exit 0 if the service answers. For the image's HEALTHCHECK: slim images have no curl."""

import http.client
import sys

PORT = 9090
# With basic auth on, this caller has no password: being turned away shows life as well.
ALIVE = (200, 401)


def answers() -> bool:
    """Whether GET /health got an answer that only a living service gives."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=4)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status in ALIVE
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if answers() else 1)

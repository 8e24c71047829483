"""Exit 0 if the service answers. Used by the image's HEALTHCHECK, because slim images lack curl."""

import http.client
import sys

PORT = 9090
# The health check has no password. With basic auth on, a 401 shows as well that the service runs.
ALIVE_STATUSES = (200, 401)


def is_alive() -> bool:
    """Return True if GET /health is answered with a status that only a running service gives."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=4)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status in ALIVE_STATUSES
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_alive() else 1)

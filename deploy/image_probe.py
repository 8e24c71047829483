"""Start the image's own command inside a container and check what only a running one can show.

`python image_probe.py COMMAND...`, as the container's user. Used by image_test.sh.
"""

import base64
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

START_LIMIT_S = 180
STOP_LIMIT_S = 90
LISTENING = "0A"
SERVICE_PORT = 9090
DASHBOARD_PORT = 8265
LABEL_CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image"><Label value="red circle"/></RectangleLabels>
</View>
"""


def main(command: list[str]) -> None:
    """Exit with a sentence at the first thing that is not as it should be."""
    check(os.getuid() != 0, "The container runs as root.")
    check(not Path.home().joinpath(".ray").exists(), "The image holds a Ray token.")
    check(not os.access("/app", os.W_OK), "The service could change its own code.")
    check(os.access("/models", os.W_OK), "The service cannot write downloaded models.")
    check(os.access("/data", os.W_OK), "The service cannot write remembered prompts.")
    # What a shell starts in the background ignores Ctrl-C, and would have its children ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    service = subprocess.Popen(command)  # noqa: S603 - the image's own CMD
    try:
        say(f"first answer after {wait_until_healthy(service):.0f} s")
        say(f"/health: {ask('GET', SERVICE_PORT, '/health')}")
        say(f"boxes of the demo model: {detect_circle()}")
        check_ports()
    finally:
        service.send_signal(signal.SIGINT)
    say(f"stopped with status {service.wait(STOP_LIMIT_S)}")


def wait_until_healthy(service: subprocess.Popen[bytes]) -> float:
    """Seconds until the image's health check is content."""
    start = time.monotonic()
    while subprocess.run([sys.executable, "deploy/healthcheck.py"], check=False).returncode:
        check(service.poll() is None, "The service ended. Its output above says why.")
        check(time.monotonic() - start < START_LIMIT_S, "The service does not answer.")
        time.sleep(1)
    return time.monotonic() - start


def detect_circle() -> list[dict[str, object]]:
    """Regions that the service finds in a drawing of one red circle, as Label Studio asks it."""
    from PIL import Image, ImageDraw

    drawing = Image.new("RGB", (112, 112), "grey")
    ImageDraw.Draw(drawing).ellipse((20, 30, 70, 80), fill="red")
    png = io.BytesIO()
    drawing.save(png, "PNG")
    address = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    request = {"tasks": [{"id": 1, "data": {"image": address}}], "label_config": LABEL_CONFIG}
    status, body = ask("POST", SERVICE_PORT, "/predict", json.dumps(request))
    check(status == 200, f"/predict answers {status}: {body!r}")
    regions = json.loads(body)["results"][0]["result"]
    labels = [region["value"]["rectanglelabels"] for region in regions]
    check(labels == [["red circle"]], f"Not one red circle, but {labels}.")
    return [region["value"] for region in regions]


def check_ports() -> None:
    """The service is for others, Ray's dashboard for itself, and it asks for a token."""
    addresses = listening_addresses()
    check("00000000" in addresses.get(SERVICE_PORT, set()), "The service is closed to others.")
    check(addresses.get(DASHBOARD_PORT) == {"0100007F"}, "Ray's dashboard is open to others.")
    status, _ = ask("GET", DASHBOARD_PORT, "/api/cluster_status")
    check(status in (401, 403), f"Ray's dashboard answers {status} without a token.")
    say("Ray's dashboard is on loopback and wants a token")


def listening_addresses() -> dict[int, set[str]]:
    """Port -> local IPv4 addresses, in the kernel's hexadecimal form."""
    addresses: dict[int, set[str]] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, port = local.split(":")
        if state == LISTENING:
            addresses.setdefault(int(port, 16), set()).add(address)
    return addresses


def ask(method: str, port: int, path: str, body: str | None = None) -> tuple[int, bytes]:
    """Status and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=100)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def check(condition: bool, complaint: str) -> None:
    """Exit with the complaint unless the condition holds."""
    if not condition:
        sys.exit(complaint)


def say(sentence: str) -> None:
    """One line of the report."""
    sys.stdout.write(f"--- {sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

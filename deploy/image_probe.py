"""Run the image's own command inside a container and check the running service.

`python image_probe.py MODEL COMMAND...` runs as the container's user, with the network and the
mounts that image_test.sh creates.
"""

import base64
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

START_LIMIT_S = 180
STOP_LIMIT_S = 90
LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp
SERVICE_PORT = 9090
DASHBOARD_PORT = 8265
DEMO = "demo"
JOB_PICTURES = 8
SBOM = Path("/usr/share/doc/prelabel/sbom.cdx.json")
BUILD_TOOLS = ("gcc", "cc", "make", "cyclonedx-py")
GPU_TOOLS = ("gcc", "cc")  # Triton compiles its launchers with them
LABEL_CONFIG = """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="red circle"/><Label value="blue square"/>
  </RectangleLabels>
</View>
"""


def main(model: str, command: list[str]) -> None:
    """Run all checks. Exits with a message at the first that fails."""
    check_rights()
    check_contents(model)
    # A background job of a shell ignores SIGINT, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    service = subprocess.Popen(command)  # noqa: S603 - the image's own CMD
    try:
        say(f"first answer after {wait_until_healthy(service):.0f} s")
        say(f"/health: {request('127.0.0.1', SERVICE_PORT, '/health')}")
        check_prediction(model)
        check_ports()
        check_control_plane()
        check_metrics()
        objects = option_of_raylet("plasma_directory")
        check(objects == "/dev/shm", f"Ray keeps objects in {objects}.")  # noqa: S108
    finally:
        service.send_signal(signal.SIGINT)
    say(f"stopped with status {service.wait(STOP_LIMIT_S)}")
    if model == DEMO and find_spec("pyarrow"):
        check_job()


def check_rights() -> None:
    """Check the user, the capabilities, and that only the data folders are writable."""
    check(os.getuid() == os.getgid() == 1000, "The container does not run as user 1000.")
    read_only = os.statvfs("/").f_flag & os.ST_RDONLY
    check(bool(read_only), "The root is not read-only.")
    capabilities = re.findall(
        r"^Cap(?:Eff|Bnd):\s+(\w+)$", Path("/proc/self/status").read_text(), re.M
    )
    check([int(each, 16) for each in capabilities] == [0, 0], "The container has capabilities.")
    folders = ("/app", "/opt/venv", "/app/models")
    not_owned_by_root = [each for each in folders if Path(each).stat().st_uid]
    check(not_owned_by_root == [], f"The service could change {not_owned_by_root}.")
    check(os.access("/models", os.W_OK), "The service cannot write downloaded models.")
    check(os.access("/data", os.W_OK), "The service cannot write remembered prompts.")
    say("user 1000, no capabilities, read-only root")


def check_contents(model: str) -> None:
    """Check programs, weights, bill of materials and PyTorch; no build tools may be left."""
    check(Path.cwd() == Path("/app"), "The working directory is not /app.")
    for name in ("ray", "serve", "prelabel", "python"):
        check(shutil.which(name) is not None, f"{name} is not on the PATH.")
    allowed = GPU_TOOLS if find_spec("triton") else ()
    tools = tuple(each for each in BUILD_TOOLS if shutil.which(each))
    check(tools == allowed, f"The image holds the build tools {tools}.")
    check(Path("serve_config.production.yaml").is_file(), "The production config is missing.")
    verify = ["prelabel", "download", model, "--models-dir", "/app/models"]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)  # noqa: S603
    check(done.returncode == 0, f"The weights are incomplete: {done.stderr}")
    components = {
        each["name"]: each["version"] for each in json.loads(SBOM.read_text())["components"]
    }
    for name in ("torch", "ray", "python", "libc6", "dpkg"):
        check(name in components, f"The bill of materials lacks {name}.")
    say(
        f"bill of materials: {len(components)} packages, torch {components['torch']}, "
        f"ray {components['ray']}, python {components['python']}, libc6 {components['libc6']}"
    )
    # In a separate process, because importing torch would make this one needlessly large.
    program = (
        "import torch; from prelabel.engines.kernels.library import kernels; "
        "print(torch.__version__, torch.cuda.is_available(), kernels() is not None)"
    )
    output = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    check(output[1:] == ["False", "True"], f"PyTorch, GPU available, kernels loaded: {output}")
    say(f"PyTorch {output[0]} and the kernels load without a GPU")


def wait_until_healthy(service: subprocess.Popen[bytes]) -> float:
    """Wait until the image's health check passes; return the seconds."""
    start = time.monotonic()
    while subprocess.run([sys.executable, "deploy/healthcheck.py"], check=False).returncode:
        check(service.poll() is None, "The service ended. Its output above has the reason.")
        check(time.monotonic() - start < START_LIMIT_S, "The service does not answer in time.")
        time.sleep(1)
    return time.monotonic() - start


def check_prediction(model: str) -> None:
    """Check the prediction for a drawing of a red circle and a blue square."""
    address = f"data:image/png;base64,{base64.b64encode(drawing()).decode()}"
    body = {"tasks": [{"id": 1, "data": {"image": address}}], "label_config": LABEL_CONFIG}
    status, answer = request("127.0.0.1", SERVICE_PORT, "/predict", json.dumps(body))
    check(status == 200, f"/predict answers {status}: {answer!r}")
    (prediction,) = json.loads(answer)["results"]
    check(model in prediction["model_version"], f"Not a prediction of {model}: {prediction}.")
    centres = {}
    for region in prediction["result"]:
        value = region["value"]
        (label,) = value["rectanglelabels"]
        centres[label] = (value["x"] + value["width"] / 2, value["y"] + value["height"] / 2)
    say(f"{prediction['model_version']} sees {centres}")
    # Under another model's name, the demo's weights get image sizes that they were not trained on.
    if model == DEMO:
        check(set(centres) == {"red circle", "blue square"}, f"Expected two shapes: {centres}.")
        for label, expected in (("red circle", (25, 29)), ("blue square", (71, 67))):
            near = max(abs(a - b) for a, b in zip(centres[label], expected, strict=True)) < 5
            check(near, f"The {label} is at {centres[label]} percent, expected {expected}.")


def check_job() -> None:
    """Check that a job on Ray Data writes tasks with both shapes. Its image has EXTRA=jobs."""
    pictures, output = Path("/data/pictures"), Path("/data/predictions")
    pictures.mkdir()
    for index in range(JOB_PICTURES):
        (pictures / f"{index}.png").write_bytes(drawing())
    command = ["prelabel", "annotate", "--input", str(pictures), "--output", str(output)]
    command += ["--labels", "red circle,blue square", "--format", "jsonl,parquet"]
    command += ["--config", "/app/serve_config.docker.yaml", "--ray"]
    done = subprocess.run(command, check=False)  # noqa: S603
    check(done.returncode == 0, f"The job ended with status {done.returncode}.")
    tasks = [
        json.loads(line)
        for part in output.rglob("*.jsonl")
        if part.name != "failures.jsonl"
        for line in part.read_text().splitlines()
    ]
    check(len(tasks) == JOB_PICTURES, f"The job wrote {len(tasks)} of {JOB_PICTURES} tasks.")
    for task in tasks:
        (prediction,) = task["predictions"]
        found = sorted(each["value"]["rectanglelabels"][0] for each in prediction["result"])
        check(found == ["blue square", "red circle"], f"Expected two shapes: {found}.")
    check(bool(list(output.rglob("*.parquet"))), "The job wrote no Parquet file.")
    say(f"a job on Ray Data wrote {len(tasks)} tasks")


def check_ports() -> None:
    """Check that the service listens on all addresses, and Ray's dashboard on loopback only."""
    addresses = listening_addresses()
    check(
        "00000000" in addresses.get(SERVICE_PORT, set()),
        "The service is not public.",
    )
    check(
        addresses.get(DASHBOARD_PORT) == {"0100007F"},
        "Ray's dashboard is public.",
    )


def check_control_plane() -> None:
    """Check that Ray's dashboard, job API and gRPC reject calls without the token."""
    for path in ("/api/cluster_status", "/api/jobs/", "/api/serve/applications/"):
        status, _ = request("127.0.0.1", DASHBOARD_PORT, path)
        check(status == 401, f"Ray's dashboard answers {status} at {path} without a token.")
    job = json.dumps({"entrypoint": "touch /tmp/intruder"})
    status, _ = request("127.0.0.1", DASHBOARD_PORT, "/api/jobs/", job)
    check(status == 401, f"Ray's dashboard answers {status} to a job without a token.")
    token = Path.home().joinpath(".ray/auth_token").read_text().strip()
    gcs = option_of_raylet("gcs-address")
    without, wrong, right = (call_gcs(gcs, each) for each in ("", "0" * 64, token))
    check((without, wrong) == ("UNAUTHENTICATED",) * 2, f"gRPC at {gcs}: {without}, {wrong}")
    check(right == "OK", f"gRPC at {gcs} answers {right} to a call with the token.")
    say(f"Ray's dashboard, job API and gRPC ({gcs}) require the token")


def option_of_raylet(name: str) -> str:
    """Return a command-line option of Ray's node process."""
    pattern = re.compile(rf"raylet/raylet\0.*--{name}=([^\0 ]+)", re.DOTALL)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if match := pattern.search(path.read_text(errors="replace")):
            return match[1]
    sys.exit(f"No raylet has the option {name}.")


def call_gcs(address: str, token: str) -> str:
    """List the nodes at Ray's control store (GCS); return the name of the gRPC status."""
    import grpc
    from ray.core.generated import gcs_service_pb2

    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
            request_serializer=gcs_service_pb2.GetAllNodeInfoRequest.SerializeToString,
            response_deserializer=gcs_service_pb2.GetAllNodeInfoReply.FromString,
        )
        metadata = [("authorization", f"Bearer {token}")] if token else []
        try:
            call(gcs_service_pb2.GetAllNodeInfoRequest(), metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            status: str = error.code().name
            return status
    return "OK"


def check_metrics() -> None:
    """Check that Prometheus can read the address of Ray's metrics port, and the metrics there."""
    targets: list[Any] = []
    deadline = time.monotonic() + 60
    discovery = Path("/tmp/ray/prom_metrics_service_discovery.json")  # noqa: S108
    while not targets and time.monotonic() < deadline:
        if discovery.exists():
            groups = json.loads(discovery.read_text())
            targets = [each for group in groups for each in group["targets"]]
        time.sleep(1)
    check(bool(targets), "Ray does not write the address of its metrics port.")
    check(
        discovery.stat().st_mode & 0o004 != 0,
        "Prometheus cannot read that address.",
    )
    reachable = [each for each in targets if not each.startswith("127.")]
    check(bool(reachable), f"Other containers cannot reach the metrics at {targets}.")
    host, port = reachable[0].rsplit(":", 1)
    while b"ray_prelabel_requests_total" not in request(host, int(port), "/metrics")[1]:
        check(time.monotonic() < deadline, "The metrics of the service are missing from Ray's.")
        time.sleep(2)
    say(f"metrics at {reachable[0]}")


def listening_addresses() -> dict[int, set[str]]:
    """Return the local IPv4 addresses by listening port, in the kernel's hexadecimal form."""
    addresses: dict[int, set[str]] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, port = local.split(":")
        if state == LISTENING:
            addresses.setdefault(int(port, 16), set()).add(address)
    return addresses


def request(host: str, port: int, path: str, body: str | None = None) -> tuple[int, bytes]:
    """Send a GET request, or a POST request with a body; return status and body."""
    connection = http.client.HTTPConnection(host, port, timeout=100)
    try:
        connection.request(
            "GET" if body is None else "POST", path, body, {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def drawing() -> bytes:
    """Return a red circle and a blue square as a PNG file."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (224, 224), "grey")
    ImageDraw.Draw(picture).ellipse((20, 30, 90, 100), fill="red")
    ImageDraw.Draw(picture).rectangle((120, 110, 200, 190), fill="blue")
    png = io.BytesIO()
    picture.save(png, "PNG")
    return png.getvalue()


def check(condition: bool, message: str) -> None:
    """Exit with a message unless the condition holds."""
    if not condition:
        sys.exit(message)


def say(sentence: str) -> None:
    """Print one line of the report."""
    sys.stdout.write(f"--- {sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

"""Wait on a spot machine for the cloud's termination notice, then drain the machine's Ray node.

Serve then starts the replicas on other nodes and routes no more requests to this one.

    python3 spot_notice.py aws    # or gcp; needs the standard library and the `ray` command only

The program runs until the machine ends or the node is drained. A second instance exits at once.
"""

from __future__ import annotations

import argparse
import fcntl
import http.client
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

AWS_TOKEN_TTL_S = 21_600  # the longest that IMDSv2 grants
GCP_NOTICE_S = 30  # time from the notice to the end of the machine
REACTION_S = 5  # part of that time that polling and Ray's command take
TIMEOUT_S = 2  # the metadata service is on the same host
DRAIN_TIMEOUT_S = 60

logger = logging.getLogger("spot_notice")


class MetadataError(Exception):
    """The metadata service gave no usable answer."""


def request(address: str, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Return status and body.

    http.client uses no proxy and follows no redirect, so the token reaches this address only.
    """
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read(10_000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise MetadataError(f"{address} does not answer: {error}") from error
    finally:
        connection.close()


def aws_seconds_left(address: str) -> int | None:
    """Return the seconds until the machine ends; None without a notice. Uses IMDSv2."""
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(AWS_TOKEN_TTL_S)}
    status, token = request(address, "PUT", "/latest/api/token", ttl)
    if status != 200:
        raise MetadataError(f"the token request was answered with {status}")
    path = "/latest/meta-data/spot/instance-action"
    status, body = request(address, "GET", path, {"X-aws-ec2-metadata-token": token})
    if status == 404:
        return None
    if status != 200:
        raise MetadataError(f"{path}: {status}")
    try:
        at = datetime.fromisoformat(json.loads(body)["time"])
        return int((at - datetime.now(UTC)).total_seconds())
    except (ValueError, KeyError, TypeError) as error:
        raise MetadataError(f"{path} has an unknown format: {body[:200]!r}") from error


def gcp_seconds_left(address: str) -> int | None:
    """Return the seconds until the machine ends; None without a notice."""
    path = "/computeMetadata/v1/instance/preempted"
    status, body = request(address, "GET", path, {"Metadata-Flavor": "Google"})
    if status != 200:
        raise MetadataError(f"{path}: {status}")
    return GCP_NOTICE_S if body.strip() == "TRUE" else None


CLOUDS: Mapping[str, tuple[str, Callable[[str], int | None]]] = {
    "aws": ("169.254.169.254", aws_seconds_left),
    "gcp": ("metadata.google.internal", gcp_seconds_left),
}


def wait_for_notice(seconds_left: Callable[[], int | None], every_s: float) -> int:
    """Poll until there is a notice; return the seconds left. Repeated failures are logged once."""
    failing = False
    while True:
        try:
            left = seconds_left()
            failing = False
        except MetadataError as error:
            if not failing:
                logger.warning("the cloud's termination notice cannot be read: %s", error)
            left, failing = None, True
        if left is not None:
            return left
        time.sleep(every_s)


def drain(ray: Sequence[str], seconds_left: int) -> bool:
    """Tell Ray to drain this node within the seconds left. Returns True if Ray accepted."""
    command = [
        *ray,
        "--reason=DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message=the spot machine is terminated",
        f"--deadline-remaining-seconds={max(seconds_left - REACTION_S, 1)}",
    ]
    try:
        done = subprocess.run(  # noqa: S603 - the command is the operator's
            command, capture_output=True, text=True, timeout=DRAIN_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("%s", error)
        return False
    if done.returncode != 0:
        logger.warning("Ray did not drain the node: %s", (done.stderr or done.stdout)[-1000:])
    return done.returncode == 0


@contextmanager
def single_instance(lock: Path) -> Iterator[bool]:
    """Take a lock file; yield False if another process on this machine holds it."""
    with lock.open("w") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; the words after `--` are the drain command.

    Without --node-id, the default `ray drain-node` drains the node of this machine.
    """
    own, drain = list(words), ["ray", "drain-node"]
    if "--" in own:
        separator = own.index("--")
        own, drain = own[:separator], own[separator + 1 :]
    parser = argparse.ArgumentParser(
        usage="spot_notice.py {aws,gcp} [options] [-- ray drain-node]",
        description=__doc__.partition("\n\n")[0],
    )
    parser.add_argument("cloud", choices=CLOUDS)
    parser.add_argument("--metadata", help="host:port of another metadata service")
    parser.add_argument("--every", type=float, default=2, help="polling interval, seconds")
    parser.add_argument(
        "--lock", type=Path, default=Path.home() / ".prelabel-spot-notice.lock", help="lock file"
    )
    return parser.parse_args(own, argparse.Namespace(drain=drain))


def main() -> None:
    """Wait for a notice, then drain the node; retry until the machine ends."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    options = parse(sys.argv[1:])
    address, seconds_left = CLOUDS[options.cloud]
    address = options.metadata or address
    with single_instance(options.lock) as is_first:
        if not is_first:
            logger.info("another instance is running")
            return
        logger.info("waiting for a termination notice from %s", address)
        left = wait_for_notice(lambda: seconds_left(address), options.every)
        deadline = time.monotonic() + left
        logger.info("the machine ends in %d s; draining its Ray node", left)
        while not drain(options.drain, int(deadline - time.monotonic())):
            if time.monotonic() > deadline:
                return
            time.sleep(1)
        logger.info("drained")


if __name__ == "__main__":
    main()

"""On a spot machine: waits for the cloud's notice that it is taken away, then drains its Ray node,
so that Serve starts replicas elsewhere and sends no more requests here.

    python3 spot_notice.py aws      or gcp; needs the standard library, and Ray's command

It goes on until the machine ends or the node is drained; a second one ends at once.
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

AWS_TOKEN_TTL_S = 21_600
GCP_NOTICE_S = 30  # from the notice to the end
TO_ACT_S = 5  # of that, for polling and Ray's command
TIMEOUT_S = 2
DRAIN_TIMEOUT_S = 60

logger = logging.getLogger("spot_notice")


class MetadataError(Exception):
    """The metadata service gave no answer that says anything."""


def ask(address: str, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Status and body. No proxy and no redirect: the token is for this address alone."""
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
    """Until this machine is taken away; None without notice. By IMDSv2, which wants a token."""
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(AWS_TOKEN_TTL_S)}
    status, token = ask(address, "PUT", "/latest/api/token", ttl)
    if status != 200:
        raise MetadataError(f"no token, but {status}")
    path = "/latest/meta-data/spot/instance-action"
    status, body = ask(address, "GET", path, {"X-aws-ec2-metadata-token": token})
    if status == 404:
        return None
    if status != 200:
        raise MetadataError(f"{path}: {status}")
    try:
        at = datetime.fromisoformat(json.loads(body)["time"])
        return int((at - datetime.now(UTC)).total_seconds())
    except (ValueError, KeyError, TypeError) as error:
        raise MetadataError(f"{path} is not understood: {body[:200]!r}") from error


def gcp_seconds_left(address: str) -> int | None:
    """Until this machine is taken away; None without notice."""
    path = "/computeMetadata/v1/instance/preempted"
    status, body = ask(address, "GET", path, {"Metadata-Flavor": "Google"})
    if status != 200:
        raise MetadataError(f"{path}: {status}")
    return GCP_NOTICE_S if body.strip() == "TRUE" else None


CLOUDS: Mapping[str, tuple[str, Callable[[str], int | None]]] = {
    "aws": ("169.254.169.254", aws_seconds_left),
    "gcp": ("metadata.google.internal", gcp_seconds_left),
}


def wait_for_notice(seconds_left: Callable[[], int | None], every_s: float) -> int:
    """Seconds until the machine ends. Says of a metadata service that fails once that it does."""
    failing = False
    while True:
        try:
            left = seconds_left()
            failing = False
        except MetadataError as error:
            if not failing:
                logger.warning("the cloud's notices cannot be read: %s", error)
            left, failing = None, True
        if left is not None:
            return left
        time.sleep(every_s)


def drain(ray: Sequence[str], seconds_left: int) -> bool:
    """Whether Ray took it: this node gets no more work, and must be done until then."""
    command = [
        *ray,
        "--reason=DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message=the spot machine is taken away",
        f"--deadline-remaining-seconds={max(seconds_left - TO_ACT_S, 1)}",
    ]
    try:
        done = subprocess.run(  # noqa: S603 - the command is the operator's
            command, capture_output=True, text=True, timeout=DRAIN_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning("%s", error)
        return False
    if done.returncode != 0:
        logger.warning("Ray did not take it: %s", (done.stderr or done.stdout)[-1000:])
    return done.returncode == 0


@contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Whether this is the only one on the machine."""
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def parse(words: Sequence[str]) -> argparse.Namespace:
    """What it was told. What follows `--` is the command that drains: without --node-id, this
    machine's node.
    """
    own, drain = list(words), ["ray", "drain-node"]
    if "--" in own:
        at = own.index("--")
        own, drain = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(
        usage="spot_notice.py {aws,gcp} [options] [-- ray drain-node]",
        description=__doc__.partition("\n\n")[0],
    )
    parser.add_argument("cloud", choices=CLOUDS)
    parser.add_argument("--metadata", help="host:port of the metadata service, if not the cloud's")
    parser.add_argument("--every", type=float, default=2, help="seconds between questions")
    parser.add_argument("--lock", type=Path, default=Path.home() / ".prelabel-spot-notice.lock")
    return parser.parse_args(own, argparse.Namespace(drain=drain))


def main() -> None:
    """Wait, then drain."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    given = parse(sys.argv[1:])
    address, seconds_left = CLOUDS[given.cloud]
    address = given.metadata or address
    with alone(given.lock) as first:
        if not first:
            logger.info("another one waits already")
            return
        logger.info("waiting for a notice of %s", address)
        left = wait_for_notice(lambda: seconds_left(address), given.every)
        ends = time.monotonic() + left
        logger.info("the machine is taken away in %d s; draining its Ray node", left)
        while not drain(given.drain, int(ends - time.monotonic())):
            if time.monotonic() > ends:
                return
            time.sleep(1)
        logger.info("drained")


if __name__ == "__main__":
    main()

"""Work is shared out among the detectors, by the calls that the shipped environment chooses."""

from pathlib import Path

from benchmarks.launchers import fix_detectors
from benchmarks.load_generator import closed_loop
from benchmarks.payloads import client_bodies, picture
from tests.support.counted_app import FOLDER_VARIABLE, pictures_by_process
from tests.support.processes import free_port
from tests.support.serve_process import serving, shipped_config

CLIENTS, REQUESTS = 32, 6


def test_two_detectors_share_the_pictures_nearly_equally(tmp_path: Path) -> None:
    config = shipped_config()
    config["http_options"] = {"host": "127.0.0.1", "port": free_port()}
    [application] = config["applications"]
    application["import_path"] = "tests.support.counted_app:build_counted_app"
    application["args"] |= {"prompts": {"file": ""}, "detection": {"max_batch_size": 4}}
    fix_detectors(application, 2, 0.1)
    with serving(config, {FOLDER_VARIABLE: str(tmp_path)}):
        url = f"http://127.0.0.1:{config['http_options']['port']}"
        encoded = picture((64, 48))
        closed_loop(url, 4, client_bodies(4, 2, encoded))
        before = pictures_by_process(tmp_path)
        closed_loop(url, CLIENTS, client_bodies(CLIENTS, REQUESTS, encoded))
        after = pictures_by_process(tmp_path)
    pictures = [after[process] - before.get(process, 0) for process in after]
    assert sum(pictures) == CLIENTS * REQUESTS
    # Where an ingress does not know the detectors' queues, one of the two gets three quarters:
    # 1.3 times the work of one. Equal shares are 2 times, and 0.375 is 1.6 times.
    assert len(pictures) == 2
    assert min(pictures) > 0.375 * sum(pictures)

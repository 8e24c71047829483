"""Work is shared out among the detectors, by the calls that the shipped environment chooses."""

from benchmarks.bodies import picture, requests_for
from benchmarks.servers import fix_detectors
from benchmarks.timing import closed_loop
from tests.support.processes import free_port
from tests.support.serve_process import serving, shipped_config

ONE_PER_S = 4 / (0.1 + 4 * 0.1)  # what the slow engine does in batches of four


def test_two_detectors_do_nearly_twice_the_work_of_one() -> None:
    config = shipped_config()
    config["http_options"] = {"host": "127.0.0.1", "port": free_port()}
    [application] = config["applications"]
    application["import_path"] = "benchmarks.cost_app:build_slow_app"
    application["args"] |= {"prompts_file": "", "max_batch_size": 4}
    fix_detectors(application, 2, 0.1)
    with serving(config):
        url = f"http://127.0.0.1:{config['http_options']['port']}"
        encoded = picture((64, 48))
        closed_loop(url, 4, requests_for(4, 2, encoded))
        per_s = closed_loop(url, 32, requests_for(32, 6, encoded)).per_s
    # Where nobody knows how much the other has to do, one gets three quarters: 1.3 times.
    assert per_s > 1.6 * ONE_PER_S

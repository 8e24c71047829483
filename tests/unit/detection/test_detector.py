"""From bytes to detections, around an engine that counts its calls."""

import asyncio
from typing import Any

import pytest

from prelabel.detection.batching import BatchGate
from prelabel.detection.detector import PictureDetector
from prelabel.detection.pictures import PictureReader
from prelabel.detection.suppression import Suppression
from prelabel.errors import DetectionError, ImageDecodeError
from prelabel.segmentation.grounded import GroundedSegmenter
from prelabel.settings import MIB, CacheSettings, DetectionSettings
from prelabel.types import DetectionQuery
from tests.support.counting_engine import CountingEngine, encoded, query


def ask(
    *queries: DetectionQuery,
    at_once: bool = False,
    engine: CountingEngine | None = None,
    cache_bytes: int = 256 * MIB,
    **settings: int,
) -> tuple[Any, ...]:
    """Run the queries, one after the other or at once; return the results and the engine."""
    engine = engine or CountingEngine()

    async def run() -> Any:
        values = DetectionSettings(**settings)
        cache = CacheSettings(result_bytes=cache_bytes)
        gate = BatchGate(engine.detect, max_batch_size=values.max_batch_size)
        reader = PictureReader(cache, max_pixels=1_000_000, threads=2, max_bulk=16)
        pictures = GroundedSegmenter(
            reader,
            PictureDetector(values, cache, engine, gate, reader),  # type: ignore[arg-type]
            None,
            Suppression.of(values),
            max_masks=10,
        )
        if at_once:
            return await asyncio.gather(*(pictures.detect(each) for each in queries))
        found = [await pictures.detect(each) for each in queries]
        await asyncio.sleep(0.05)  # an abandoned query would be run now
        return found

    return asyncio.run(run()), engine


def test_other_thresholds_need_no_second_pass_and_give_the_same_boxes_as_a_first_one() -> None:
    found, engine = ask(query(box=0.3), query(box=0.5), query(box=0.0))
    assert [len(each.scores) for each in found] == [3, 2, 4]
    assert engine.seen == 1
    assert len(engine.prepared) == 1


def test_another_prompt_and_another_picture_are_looked_at() -> None:
    phrases = [query(phrases=each) for each in (("cat",), ("dog",), ("cat", "dog"))]
    _, engine = ask(*phrases, query(encoded(colour="blue")))
    assert engine.seen == 4


def test_the_order_of_phrases_matters_because_results_hold_their_index() -> None:
    _, engine = ask(query(phrases=("cat", "dog")), query(phrases=("dog", "cat")))
    assert engine.seen == 2


def test_a_bulk_result_answers_the_interactive_request_for_the_same_picture() -> None:
    _, engine = ask(query(urgent=False), query(urgent=True))
    assert engine.seen == 1


def test_concurrent_equal_queries_share_one_pass() -> None:
    found, engine = ask(*[query() for _ in range(20)], at_once=True)
    assert engine.seen == 1
    assert {len(each.scores) for each in found} == {3}


def test_an_interactive_query_does_not_join_a_bulk_computation() -> None:
    slow = CountingEngine(seconds=0.3)  # so that the one is under way when the other comes
    _, engine = ask(query(urgent=False), query(urgent=True), at_once=True, engine=slow)
    assert engine.seen == 2


def test_without_a_result_cache_each_query_is_a_pass() -> None:
    _, engine = ask(query(), query(), cache_bytes=0)
    assert engine.seen == 2


@pytest.mark.parametrize(("urgent", "decoded"), [(True, 1), (False, 2)])
def test_only_an_interactive_query_keeps_the_decoded_picture(urgent: bool, decoded: int) -> None:
    _, engine = ask(query(urgent=urgent), query(phrases=("dog",), urgent=urgent))
    assert len(engine.images) == 2
    assert len({image.ctypes.data for image in engine.images}) == decoded


def test_each_tile_is_cached() -> None:
    large = encoded((300, 200))
    found, engine = ask(query(large), query(large, box=0.0), tile_size=120)
    assert engine.seen == len(engine.prepared) == 1 + 4 * 2  # the whole, and its tiles
    assert len(found[1].scores) > len(found[0].scores)


def test_a_broken_picture_is_answered_with_its_error_each_time() -> None:
    found, engine = ask(query(b"no picture"), query(b"no picture"), query())
    assert [type(each) for each in found[:2]] == [ImageDecodeError] * 2
    assert engine.seen == 1
    assert len(found[2].scores) == 3


def test_a_picture_on_which_the_model_fails_keeps_it_no_longer_busy() -> None:
    """Each of its captions would fail, and count as a failure of the replica."""
    engine = CountingEngine(chunk=1, broken=True)
    [outcome], _ = ask(query(phrases=tuple("abcdefghijkl")), engine=engine, max_batch_size=1)
    assert isinstance(outcome, DetectionError)
    assert engine.seen < 6  # the one that failed, and what was begun meanwhile

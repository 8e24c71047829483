"""From bytes to detections, around an engine that counts its calls."""

import asyncio
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prelabel.detection.batching import BatchGate
from prelabel.detection.detector import PictureDetector
from prelabel.detection.pictures import PictureReader
from prelabel.detection.suppression import Suppression
from prelabel.errors import DetectionError, ImageDecodeError
from prelabel.segmentation.grounded import GroundedSegmenter
from prelabel.settings import MIB, CacheSettings, DetectionSettings, ReviewSettings
from prelabel.types import DetectionQuery, RawDetections
from tests.support.counting_engine import CountingEngine, Item, encoded, query


def ask(
    *queries: DetectionQuery,
    at_once: bool = False,
    engine: CountingEngine | None = None,
    cache_bytes: int = 256 * MIB,
    review: ReviewSettings | None = None,
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
            PictureDetector(values, cache, engine, gate, reader, review),  # type: ignore[arg-type]
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


UNCERTAINTY = ReviewSettings(prediction_score="uncertainty")


def test_only_a_score_of_uncertainty_asks_for_evidence() -> None:
    for review in (None, ReviewSettings(second_look=True)):
        [found], engine = ask(query(), review=review)
        assert found.evidence is None
        assert engine.seen == 1


@pytest.mark.parametrize("tile_size", [0, 120])
def test_evidence_needs_no_second_pass_and_changes_no_box(tile_size: int) -> None:
    large = query(encoded((300, 200)))
    [plain], once = ask(large, tile_size=tile_size)
    [found], engine = ask(large, review=UNCERTAINTY, tile_size=tile_size, cache_bytes=0)
    assert engine.seen == once.seen
    assert found.boxes_xyxy.tolist() == plain.boxes_xyxy.tolist()
    assert found.scores.tolist() == plain.scores.tolist()
    assert found.evidence.second_look is None
    candidates = found.evidence.candidates  # the threshold is 0.3, its third 0.1
    assert candidates.scores.min() == pytest.approx(0.2)
    assert len(candidates.scores) > len(found.scores)


class LeftEngine(CountingEngine):
    """Finds one box, on the left half of what it sees."""

    def detect(self, items: Sequence[Item]) -> list[RawDetections]:
        super().detect(items)
        scores = np.array([[0.8]], np.float32)
        return [RawDetections(np.array([[0.1, 0.2, 0.4, 0.6]]), scores, scores, 0)] * len(items)


def test_the_second_look_is_a_pass_over_the_mirrored_picture_and_is_mirrored_back() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :10] = 200
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    review = UNCERTAINTY.model_copy(update={"second_look": True})
    [found, again], engine = ask(
        query(buffer.getvalue()), query(buffer.getvalue()), engine=LeftEngine(), review=review
    )
    assert engine.seen == 2  # both passes are cached
    plain, mirrored = sorted(engine.images, key=lambda image: -int(image[0, 0, 0]))
    assert np.array_equal(mirrored, plain[:, ::-1])
    assert found.boxes_xyxy == pytest.approx(np.array([[6, 8, 24, 24]]))
    assert found.evidence.candidates.boxes_xyxy == pytest.approx(np.array([[6, 8, 24, 24]]))
    assert found.evidence.second_look.boxes_xyxy == pytest.approx(np.array([[36, 8, 54, 24]]))
    assert again.evidence.second_look.scores == pytest.approx([0.8])


def test_a_bulk_picture_has_a_perceptual_hash() -> None:
    [bulk, urgent], _ = ask(query(urgent=False), query(urgent=True))
    assert isinstance(bulk.picture_hash, int)
    assert urgent.picture_hash is None

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from training.backgrounds import HELD_OUT, TRAINED, plain
from training.icons import Sprites
from training.scenes import MAX_SIZE, MIN_SIZE, Scene, SceneKind, SceneMaker
from training.world import World

HW = (120, 180)
SIZES = [(96, 96), (64, 128), (224, 112), (480, 640)]


def scenes(world: World, sprites: Sprites, kind: SceneKind, count: int = 60) -> list[Scene]:
    make = SceneMaker(world, sprites, kind, ("zebra", "window", "carpet", "violet"))
    return [make((3, number), HW) for number in range(count)]


def test_the_seed_decides_the_scene(world: World, blots: Sprites) -> None:
    kind = SceneKind(distorted=True, unknown_words=0.5, named=0.8)
    first, second = (scenes(world, blots, kind, 20) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.phrases == b.phrases
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.boxes, b.boxes)
    assert len({scene.phrases for scene in first}) == 20


@pytest.mark.parametrize("hw", SIZES)
def test_boxes_lie_in_the_picture_and_have_the_right_size(
    world: World, blots: Sprites, hw: tuple[int, int]
) -> None:
    make = SceneMaker(world, blots, SceneKind())
    boxes = np.concatenate([make((number,), hw).boxes for number in range(40)])
    assert boxes.min() >= 0
    assert (boxes[:, 2:] <= (hw[1], hw[0])).all()
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / min(hw)
    assert longer.min() >= MIN_SIZE - 0.5 / min(hw)
    assert longer.max() <= MAX_SIZE + 0.5 / min(hw)
    assert longer.min() < 0.15
    assert longer.max() > 0.5


def test_a_box_holds_its_drawing_to_the_pixel(world: World, blots: Sprites) -> None:
    kind = SceneKind(things=1.0, objects=(1, 1), backgrounds=(plain,))
    for scene in scenes(world, blots, kind, 30):
        if not len(scene.boxes):
            continue
        magenta = (scene.image[..., 0] > 230) & (scene.image[..., 1] < 25)
        rows, columns = np.nonzero(magenta)
        drawn = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert scene.boxes[0] == pytest.approx(drawn, abs=2)  # tilted edges are soft


def test_labels_belong_to_phrases_and_no_concept_is_asked_twice(
    world: World, blots: Sprites
) -> None:
    owner = {wording: concept for concept in world.concepts for wording in concept.wordings}
    for scene in scenes(world, blots, SceneKind(named=0.8)):
        assert 1 <= len(scene.phrases) <= 30
        assert len(scene.labels) == len(scene.boxes)
        assert all(0 <= label < len(scene.phrases) for label in scene.labels)
        asked = [owner[p.removeprefix("a ").removeprefix("the ")] for p in scene.phrases]
        assert len(set(asked)) == len(asked)


def test_everything_that_is_there_is_asked_for_unless_left_out(
    world: World, blots: Sprites
) -> None:
    kind = SceneKind(things=0.5, bare_shapes=0.0)
    whole = scenes(world, blots, kind)
    partial = scenes(world, blots, replace(kind, named=0.5))
    assert sum(len(scene.boxes) for scene in partial) < 0.8 * sum(len(s.boxes) for s in whole)
    assert np.mean([len(scene.boxes) for scene in whole]) > 3


def test_prompts_of_nothing_have_no_boxes_but_phrases(world: World, blots: Sprites) -> None:
    for scene in scenes(world, blots, SceneKind(nothing=1.0)):
        assert len(scene.boxes) == 0
        assert scene.phrases


def test_held_out_pairs_are_neither_drawn_nor_named_in_training(
    world: World, blots: Sprites
) -> None:
    held_out = {wording for pair in world.held_out_pairs for wording in pair.wordings}
    kind = SceneKind(things=0.0, bare_shapes=0.0, synonyms=False)
    trained = scenes(world, blots, kind, 200)
    assert not held_out & {phrase for scene in trained for phrase in scene.phrases}
    kind = replace(kind, pairs=world.held_out_pairs, distractors=world.seen_pairs)
    measured = scenes(world, blots, kind, 20)
    assert {s.phrases[n] for s in measured for n in s.labels} <= held_out
    assert not {phrase for scene in measured for phrase in scene.phrases} <= held_out


def test_bare_shapes_are_asked_for_without_colours(world: World, blots: Sprites) -> None:
    kind = SceneKind(things=0.0, bare_shapes=1.0, synonyms=False)
    shapes = {shape.name for shape in world.shapes}
    for scene in scenes(world, blots, kind, 20):
        assert {scene.phrases[label] for label in scene.labels} <= shapes


def test_scenes_of_shapes_alone_hold_no_things_and_ask_for_more_pairs(
    world: World, blots: Sprites
) -> None:
    kind = SceneKind(things=1.0, bare_shapes=0.0, synonyms=False, phrases=(12, 30))
    things = {thing.name for thing in world.things}
    mixed = scenes(world, blots, replace(kind, shapes_only=0.5))
    shapes = [s for s in mixed if len(s.labels) and s.phrases[s.labels[0]] not in things]
    assert 20 < len(shapes) < 40
    assert not {s.phrases[label] for s in shapes for label in s.labels} & things
    pairs = [sum(phrase not in things for phrase in s.phrases) for s in shapes]
    assert np.mean(pairs) > 6
    drawings = [s for s in mixed if len(s.labels) and all(s is not shape for shape in shapes)]
    assert {s.phrases[label] for s in drawings for label in s.labels} <= things


def test_repeated_scenes_hold_a_few_concepts_several_times(world: World, blots: Sprites) -> None:
    kind = SceneKind(things=0.5, bare_shapes=0.0, objects=(6, 8))
    usual, repeated = (
        [len(s.labels) / len(set(s.labels.tolist())) for s in scenes(world, blots, each)]
        for each in (kind, replace(kind, repeated=1.0))
    )
    assert np.mean(usual) < 1.2
    assert np.mean(repeated) > 2
    assert all(
        len(set(s.labels.tolist())) <= 3 for s in scenes(world, blots, replace(kind, repeated=1.0))
    )


def test_phrases_of_absent_things_have_no_box(world: World, blots: Sprites) -> None:
    for scene in scenes(world, blots, SceneKind(unknown_words=1.0), 20):
        strange = [i for i, phrase in enumerate(scene.phrases) if phrase in ("zebra", "window")]
        assert not set(strange) & set(scene.labels.tolist())


@pytest.mark.parametrize("background", [*TRAINED, *HELD_OUT])
@pytest.mark.parametrize("hw", [(64, 128), (640, 480)])
def test_backgrounds_fill_the_picture(background: Any, hw: tuple[int, int]) -> None:
    pictures = [background(np.random.default_rng(seed), hw) for seed in (1, 1, 2)]
    assert pictures[0].shape == (*hw, 3)
    assert np.isfinite(pictures[0]).all()
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def scenes_with_masks(world: World, sprites: Sprites, kind: SceneKind, count: int) -> list[Scene]:
    make = SceneMaker(world, sprites, kind, masks=True)
    return [make((4, number), HW) for number in range(count)]


def test_masks_lie_in_their_boxes_and_have_no_pixel_in_common(world: World, blots: Sprites) -> None:
    plain_scenes = scenes(world, blots, SceneKind(), 3)
    assert all(scene.masks.shape == (0, *HW) for scene in plain_scenes)
    for scene in scenes_with_masks(world, blots, SceneKind(distorted=True, named=0.8), 30):
        assert scene.masks.shape == (len(scene.boxes), *HW)
        assert (scene.masks.sum(axis=0) <= 1).all()
        for mask, (x0, y0, x1, y1) in zip(scene.masks, scene.boxes.astype(int), strict=True):
            assert mask.any()
            mask[y0:y1, x0:x1] = False
            assert not mask.any()


def test_masks_do_not_change_the_scene(world: World, blots: Sprites) -> None:
    without, within = (
        SceneMaker(world, blots, SceneKind(), masks=masks)((8,), HW) for masks in (False, True)
    )
    assert np.array_equal(without.image, within.image)
    assert np.array_equal(without.boxes, within.boxes)


def test_the_mask_of_a_shape_is_what_covers_half_of_a_pixel(world: World, blots: Sprites) -> None:
    kind = SceneKind(things=0.0, objects=(1, 1), backgrounds=(plain,))
    checked = 0
    for scene in scenes_with_masks(world, blots, kind, 20):
        if not len(scene.masks):
            continue  # no contrast with the background
        [mask] = scene.masks
        pixels = scene.image.astype(float)
        background = pixels[~mask][np.abs(pixels[~mask] - pixels[mask][0]).sum(1).argmax()]
        full = pixels[mask][np.abs(pixels[mask] - background).sum(1).argmax()]
        alpha = (pixels - background) @ (full - background) / ((full - background) ** 2).sum()
        certain = np.abs(alpha - 0.5) > 0.03  # channels are rounded to integers
        assert np.array_equal(mask[certain], alpha[certain] > 0.5)
        checked += 1
    assert checked > 10


def test_a_later_object_covers_an_earlier_one(world: World, blots: Sprites) -> None:
    squares = tuple(pair for pair in world.seen_pairs if pair.shape == "square")  # of hard edges
    kind = SceneKind(things=0.0, objects=(6, 8), pairs=squares, backgrounds=(plain,))
    covered = 0
    for scene in scenes_with_masks(world, blots, kind, 20):
        for number, mask in enumerate(scene.masks):
            colours = np.unique(scene.image[mask], axis=0)
            assert len(colours) == 1  # and none of another object's pixels
            x0, y0, x1, y1 = scene.boxes[number].astype(int)
            covered += int(mask.sum() < (x1 - x0) * (y1 - y0))
    assert covered > 10

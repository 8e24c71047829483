from pathlib import Path

import numpy as np
import pytest
import torch

from prelabel.checkpoints.cards import load_card, verify
from prelabel.engines import load_engine
from training.card import IMAGE_SIZE, write_card
from training.icons import Sprites
from training.model import BERT_VOCABULARY, Checkpoint, Vocabulary, build_model, set_queries
from training.scenes import SceneKind, SceneMaker
from training.world import World

pytestmark = [
    # groundingdino-py 0.4.0 is of 2023; see the tests of the engines.
    pytest.mark.filterwarnings("ignore:Importing from timm.models.layers is deprecated"),
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.cuda.amp.autocast:FutureWarning"),
]


def test_unknown_words_share_a_row(vocabulary: Vocabulary) -> None:
    compact = torch.arange(len(vocabulary) * 2.0).reshape(-1, 2)
    full = vocabulary.expanded(compact)
    assert full.shape == (BERT_VOCABULARY, 2)
    [cat] = vocabulary.bert_ids("cat")
    assert torch.equal(full[cat], compact[vocabulary.rows("cat")[0]])
    [zebra], [violet] = vocabulary.bert_ids("zebra"), vocabulary.bert_ids("violet")
    assert torch.equal(full[zebra], compact[0])
    assert torch.equal(full[zebra], full[violet])


def test_synonyms_begin_near_their_names(world: World, vocabulary: Vocabulary) -> None:
    model = build_model(world, vocabulary, seed=0)
    rows = model.model.text_backbone.embeddings.word_embeddings.weight.detach()

    def likeness(a: str, b: str) -> float:
        first, second = (rows[vocabulary.rows(word)[0]] for word in (a, b))
        return float(torch.cosine_similarity(first, second, dim=0))

    assert likeness("cat", "cats") > 0.8
    assert likeness("cat", "kitten") > 0.8
    assert likeness("cat", "dog") < 0.5


def test_the_same_seed_gives_the_same_weights(world: World, vocabulary: Vocabulary) -> None:
    first, second, other = (build_model(world, vocabulary, seed) for seed in (0, 0, 1))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    name = "model.decoder.layers.0.fc1.weight"
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


@pytest.mark.parametrize("queries", [50, 80])
def test_a_saved_checkpoint_loads_in_both_engines_with_equal_results(
    queries: int, world: World, vocabulary: Vocabulary, blots: Sprites, tmp_path: Path
) -> None:
    model = build_model(world, vocabulary, seed=0)
    set_queries(model, queries)
    folder = tmp_path / "demo"
    Checkpoint(model.state_dict(), vocabulary).save(folder)
    card = load_card(str(write_card(folder)))
    verify(card, folder)
    assert card.image_size.model_dump() == IMAGE_SIZE
    assert sum(file.size or 0 for file in card.files if file.path.endswith("tensors")) < 30e6
    scene = SceneMaker(world, blots, SceneKind())((1,), (120, 160))
    answers = []
    for name in ("huggingface", "groundingdino"):
        changed = card.model_copy(update={"engine": name})
        engine = load_engine(changed, folder, device="cpu", precision="float64")
        answers.append(engine.detect(engine.prepare(scene.image, scene.phrases))[0])
    theirs, ours = answers
    assert len(theirs.boxes_xyxy_norm) == queries
    assert np.abs(ours.phrase_max - theirs.phrase_max).max() < 1e-6
    assert np.abs(ours.boxes_xyxy_norm - theirs.boxes_xyxy_norm).max() < 1e-6

"""Checkpoints that load, and the errors for those that do not."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    SwinConfig,
)

from benchmarks.models import library_model
from prelabel.checkpoints.cards import ImageSize, ModelCard, ModelFile, load_card, model_folder
from prelabel.engines import huggingface, load_engine
from prelabel.engines.base import AnyEngine
from prelabel.engines.groundingdino.config import read_port_config
from prelabel.engines.preprocess import normalised
from prelabel.engines.torch_engine import TorchEngine
from prelabel.engines.weights import read_weights
from prelabel.errors import ModelError
from prelabel.types import ImageRGB

pytestmark = pytest.mark.slow

TENSORS = {"a.weight": torch.arange(3.0), "b.bias": torch.ones(2)}


class Malicious:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.mkdir, (self.target,)


def local_card(folder: Path, **fields: object) -> ModelCard:
    """A user's own card for the one checkpoint in that folder."""
    weights = next(
        path.name for path in folder.iterdir() if path.suffix in (".pth", ".safetensors")
    )
    card: dict[str, object] = {
        "name": "own",
        "title": "own",
        "source": "local",
        "folder": folder,
        "files": [ModelFile(path=weights)],
        "weights": weights,
        "image_size": ImageSize(shortest_edge=112, longest_edge=224),
        "licence": "none",
    }
    return ModelCard.model_validate(card | fields)


def load_local(card: ModelCard) -> AnyEngine:
    return load_engine(card, model_folder(card, "models"), device="cpu", precision="float32")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrap", [lambda tensors: tensors, lambda tensors: {"model": tensors}])
def test_every_layout_of_a_pth_is_read(tmp_path: Path, prefix: str, wrap: object) -> None:
    assert callable(wrap)
    path = tmp_path / "own.pth"
    torch.save(wrap({prefix + name: tensor for name, tensor in TENSORS.items()}), path)
    weights = read_weights(path)
    assert {name: tensor.tolist() for name, tensor in weights.items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }


def test_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    target = tmp_path / "made-by-the-pickle"
    torch.save({"model": Malicious(target)}, tmp_path / "own.pth")
    with pytest.raises(ModelError, match="holds more than weights"):
        read_weights(tmp_path / "own.pth")
    assert not target.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_file_is_a_sentence(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"own{suffix}"
    path.write_bytes(b"\x80\x02 this is nothing")
    with pytest.raises(ModelError, match="is damaged"):
        read_weights(path)


@pytest.mark.parametrize("engine", ["groundingdino", "huggingface"])
@pytest.mark.parametrize("extra", [False, True])
def test_weight_that_does_not_fit_is_named(
    tmp_path: Path, demo_card: ModelCard, engine: str, extra: bool
) -> None:
    demo = model_folder(demo_card, "models")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(demo / name, tmp_path)
    tensors = load_file(demo / "model.safetensors")
    moved = tensors.pop("model.enc_output_norm.weight")
    if extra:
        tensors |= {"model.enc_output_norm.weight": moved, "model.stowaway": torch.ones(1)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    pattern = "stowaway" if extra else r"lacks 1 weights .*enc_output_norm\.weight"
    with pytest.raises(ModelError, match=pattern):
        load_local(local_card(tmp_path, engine=engine))


@pytest.mark.parametrize("engine", ["groundingdino", "huggingface"])
def test_leftovers_of_older_libraries_do_no_harm(
    tmp_path: Path, demo_card: ModelCard, engine: str
) -> None:
    demo = model_folder(demo_card, "models")
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    block = "model.backbone.conv_encoder.model.encoder.layers.0.blocks.0"
    leftovers = {
        f"{block}.attention.self.relative_position_index": torch.zeros(49, 49, dtype=torch.int64),
        "model.text_backbone.embeddings.position_ids": torch.arange(512)[None],
        "model.text_backbone.pooler.dense.bias": torch.zeros(128),
    }
    tensors = load_file(demo / "model.safetensors") | leftovers
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    load_local(local_card(tmp_path, engine=engine))


@pytest.mark.parametrize("engine", ["groundingdino", "huggingface"])
def test_weights_of_another_shape_are_a_sentence(
    tmp_path: Path, demo_card: ModelCard, engine: str
) -> None:
    demo = model_folder(demo_card, "models")
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    config = (demo / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"num_queries": 150', '"num_queries": 60'))
    with pytest.raises(ModelError, match="config"):
        load_local(local_card(tmp_path, engine=engine))


def test_unknown_library_config_is_a_sentence(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "own.pth")
    card = local_card(
        tmp_path, engine="groundingdino", config="Nothing.py", text_encoder="bert-base-uncased"
    )
    with pytest.raises(ModelError, match=r"Nothing\.py is no config"):
        load_local(card)


def test_config_file_is_read_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "made-by-the-config"
    torch.save(TENSORS, tmp_path / "own.pth")
    (tmp_path / "own.py").write_text(f"import os\nhidden_dim = os.mkdir({str(target)!r})\n")
    card = local_card(
        tmp_path, engine="groundingdino", config="own.py", text_encoder="bert-base-uncased"
    )
    with pytest.raises(ModelError, match=r"own\.py is no config"):
        load_local(card)
    assert not target.exists()


def test_mm_grounding_dino_runs_with_the_packaged_tokenizer(
    tmp_path: Path, scene: ImageRGB
) -> None:
    torch.manual_seed(0)
    config = MMGroundingDinoConfig(
        backbone_config=SwinConfig(  # type: ignore[call-arg]
            image_size=224,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 4, 8],
            out_indices=[2, 3, 4],
        ),
        text_config=BertConfig(
            hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
        ),
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=20,
    )
    MMGroundingDinoForObjectDetection(config).save_pretrained(tmp_path)
    engine = load_local(
        local_card(tmp_path, engine="huggingface", text_encoder="bert-base-uncased")
    )
    items = engine.prepare(scene, ("red circle", "blue square", "cat"))
    (raw,) = engine.detect(items)
    assert raw.boxes_xyxy_norm.shape == (20, 4)
    assert raw.phrase_max.shape == (20, 3)
    assert 0 <= raw.phrase_mean.min() <= raw.phrase_max.max() <= 1


def test_official_layout_of_full_size_gives_the_librarys_own_answer(
    tmp_path: Path, scene: ImageRGB
) -> None:
    """A random Swin-T, saved as the authors save theirs, loaded through the shipped card."""
    reference = library_model()
    weights = {f"module.{name}": tensor for name, tensor in reference.state_dict().items()}
    weights["module.label_enc.weight"] = torch.zeros(3, 256)
    torch.save({"model": weights}, tmp_path / "groundingdino_swint_ogc.pth")
    del weights
    shipped = load_card("grounding-dino-swin-t")
    card = shipped.model_copy(
        update={
            "files": (ModelFile(path=shipped.weights),),
            "image_size": ImageSize(shortest_edge=224, longest_edge=224),
        }
    )
    # In float32 random weights let rounding grow to 2e-3.
    engine = load_engine(card, tmp_path, device="cpu", precision="float64")
    (item,) = engine.prepare(scene, ("red circle", "blue square"))
    (raw,) = engine.detect([item])
    with torch.inference_mode():
        pixels = normalised(item.pixels[None]).double()
        expected = reference.double()(pixels, captions=["red circle . blue square ."])
    probs = expected["pred_logits"][0].sigmoid().numpy()
    centres_xy = expected["pred_boxes"][0, :, :2].numpy()
    assert raw.phrase_max[:, 0] == pytest.approx(probs[:, 1:3].max(axis=1), abs=1e-6)
    assert raw.boxes_xyxy_norm.reshape(-1, 2, 2).mean(axis=1) == pytest.approx(centres_xy, abs=1e-6)


@pytest.mark.parametrize("separate", [False, True])
def test_box_heads_of_open_groundingdino_stay_apart_where_it_trained_them_apart(
    tmp_path: Path, demo_card: ModelCard, scene: ImageRGB, separate: bool
) -> None:
    """`dec_pred_bbox_embed_share = False`; with one head for all, the last would win."""
    # Not above: the library's old imports warn, and the filters for that hold in tests only.
    from prelabel.engines.groundingdino.network import GroundingDinoNetwork, OriginalModules

    demo = model_folder(demo_card, "models")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(demo / name, tmp_path)
    shape = read_port_config(demo / "config.json")
    torch.manual_seed(0)
    modules = OriginalModules(shape, separate_box_heads=separate)
    torch.save({"model": modules.state_dict()}, tmp_path / "own.pth")
    engine = load_local(local_card(tmp_path, engine="groundingdino"))
    assert isinstance(engine, TorchEngine)
    loaded = engine._network
    assert isinstance(loaded, GroundingDinoNetwork)
    decoder = loaded.passes.decoder
    heads = [head.hidden[0].linear1.bias for head in decoder.boxes]  # type: ignore[index, union-attr]
    expected = [head.layers[0].bias for head in modules.bbox_embed]  # type: ignore[index, union-attr]
    assert all(torch.equal(found, right) for found, right in zip(heads, expected, strict=True))
    assert torch.equal(heads[0], heads[1]) != separate


def test_layers_that_do_not_fit_the_installed_transformers_are_left_out(
    demo_card: ModelCard,
    scene: ImageRGB,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As with transformers 5.17, where they silently computed something else."""
    folder = model_folder(demo_card, "models")
    sound = load_engine(demo_card, folder, device="cpu", precision="float32")
    assert "faster layers" not in caplog.text
    phrases = ("red circle", "blue square")
    [expected] = sound.detect(sound.prepare(scene, phrases))
    attend = huggingface.PortAttention.forward
    monkeypatch.setattr(
        huggingface.PortAttention,
        "forward",
        lambda self, *args, **kwargs: (0.5 * attend(self, *args, **kwargs)[0], None),
    )
    with caplog.at_level(logging.WARNING):
        engine = load_engine(demo_card, folder, device="cpu", precision="float32")
    assert "The model runs without them" in caplog.text
    [found] = engine.detect(engine.prepare(scene, phrases))
    assert found.phrase_max.max(0) == pytest.approx(expected.phrase_max.max(0), abs=1e-3)

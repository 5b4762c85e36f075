"""A LoRA trains, is stored as peft does, and changes what the engine paints; what is not one is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file

from glmimage import adapters
from glmimage.adapters import CONFIG, WEIGHTS, Adapter
from glmimage.engine import Engine
from glmimage.errors import CheckpointError, PictureError, TrainingError
from glmimage.events import Result
from glmimage.fitting import Wishes
from glmimage.models import Stack
from glmimage.quantize import FOLDERS
from glmimage.request import Request
from glmimage.train import lora
from glmimage.train.__main__ import main
from glmimage.train.loop import Schedule

PARTS = ("prior", "decoder")
FAST = Schedule(steps=8, rate=2e-2, batch=2, warmup=1)


def apply(stack: Stack, wanted: list[Adapter]) -> None:
    adapters.apply({"prior": stack.prior, "decoder": stack.decoder}, wanted)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index, (width, height) in enumerate(((64, 64), (70, 61), (128, 64))):
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([rows * 3 % 256, columns * 2 % 256, rows * 0 + 80 * index], -1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text('a cat and "AB"\n', encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(tiny: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("lora")
    stack = Stack.load(tiny)
    written = list(lora.learn(stack, pictures, dict.fromkeys(PARTS, FAST), output, output / "runs", 4))
    assert written == [(part, output / FOLDERS[part]) for part in PARTS]
    return output


def paint(engine: Engine) -> Result:
    events = engine.run(Request(prompt='a cat and "AB"', width=64, height=64, seed=3), previews=False)
    return next(event for event in events if isinstance(event, Result))


def test_training_lowers_the_loss_on_its_pictures(tiny: Path, pictures: Path, trained: Path):
    def losses(stack: Stack) -> tuple[float, float]:
        items = [item for item in lora.prepare(stack, pictures) if item.size.width == item.size.height]
        with torch.no_grad():
            of_decoder = [
                lora.decoder_loss(stack, items, torch.Generator().manual_seed(seed)).item() for seed in range(20)
            ]
            return lora.prior_loss(stack, items).item(), float(np.mean(of_decoder))

    stack = Stack.load(tiny)
    before = losses(stack)
    apply(stack, [Adapter(trained)])
    after = losses(stack)
    assert after[0] < before[0] - 0.1
    assert after[1] < before[1]


@pytest.mark.parametrize("side", [64, 96])
def test_what_is_to_be_kept_is_learned_from_too(tiny: Path, pictures: Path, tmp_path: Path, side: int):
    known = tmp_path / "known"
    known.mkdir()
    Image.new("RGB", (side, side), "white").save(known / "white.png")
    (known / "white.txt").write_text("nothing on white", encoding="utf-8")

    def lost(preserve: Path | None) -> tuple[float, float]:
        """Of the prior: on what is new, on what is to be kept."""
        stack, output = Stack.load(tiny), tmp_path / f"adapter-{preserve is None}"
        schedules = {"prior": replace(FAST, steps=60, batch=4)}
        list(lora.learn(stack, pictures, schedules, output, output / "runs", 4, preserve))
        with torch.no_grad():
            new = [item for item in lora.prepare(stack, pictures) if item.size.width == item.size.height]
            return lora.prior_loss(stack, new).item(), lora.prior_loss(stack, lora.prepare(stack, known)).item()

    alone, beside = lost(None), lost(known)
    assert beside[1] < alone[1] - 1
    assert beside[0] < alone[0] + 0.1, "and still learns what is new"


def test_what_is_learned_from_other_captions_or_at_another_rank_or_rate_begins_anew(
    tiny: Path, pictures: Path, trained: Path, tmp_path: Path
):
    def files(folder: Path, rank: int, rate: float = FAST.rate) -> int:
        """States of runs after one that is over at once where it goes on."""
        runs = trained / "runs"
        schedules = {"prior": replace(FAST, rate=rate)}
        list(lora.learn(Stack.load(tiny), folder, schedules, tmp_path / "adapter", runs, rank))
        return len(list(runs.rglob("lora-prior.pt")))

    before = len(list((trained / "runs").rglob("lora-prior.pt")))
    assert files(pictures, 4) == before
    other = tmp_path / "other"
    shutil.copytree(pictures, other)
    (other / "0.txt").write_text("a dog", encoding="utf-8")
    assert files(other, 4) == before + 1
    assert files(pictures, 2) == before + 2
    assert files(pictures, 4, FAST.rate / 2) == before + 3


def test_the_batch_of_a_loss_that_is_not_finite_holds_all_that_it_is_computed_from(
    tiny: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lora, "decoder_loss", lambda stack, items, generator: torch.tensor(torch.nan))
    stack = Stack.load(tiny)
    with pytest.raises(TrainingError, match=r"The loss of lora-decoder is nan at step 0 \(its batch is in "):
        list(lora.learn(stack, pictures, {"decoder": FAST}, tmp_path / "out", tmp_path / "runs", 4))
    (path,) = tmp_path.rglob("lora-decoder-batch-0.safetensors")
    kept = load_file(path)
    assert bytes(kept["0.caption"].tolist()).decode() == 'a cat and "AB"'
    known = [item for item in lora.prepare(stack, pictures) if torch.equal(item.codes, kept["0.codes"])]
    assert any(torch.equal(item.latents, kept["0.latents"]) for item in known)


def test_the_engine_paints_with_it(tiny: Path, trained: Path):
    bare, with_it = paint(Engine.load(str(tiny))), paint(Engine.load(str(tiny), adapters=[Adapter(trained)]))
    assert not np.array_equal(bare.prior.target, with_it.prior.target)
    assert with_it.checkpoint == f"{bare.checkpoint} + {trained.name}"
    without = paint(Engine.load(str(tiny), adapters=[Adapter(trained, 0.0)]))
    assert np.array_equal(np.asarray(without.image), np.asarray(bare.image))
    # One of its parts alone, by its file.
    file = trained / FOLDERS["decoder"] / WEIGHTS
    painted_otherwise = paint(Engine.load(str(tiny), adapters=[Adapter(file)]))
    assert np.array_equal(painted_otherwise.prior.target, bare.prior.target)
    assert not np.array_equal(np.asarray(painted_otherwise.image), np.asarray(bare.image))


def test_peft_reads_the_same(tiny: Path, trained: Path):
    ours, theirs = Stack.load(tiny), Stack.load(tiny)
    apply(ours, [Adapter(trained)])
    for part in PARTS:
        wrapped = PeftModel.from_pretrained(getattr(theirs, part), str(trained / FOLDERS[part]))
        merged = wrapped.merge_and_unload().state_dict()
        for name, value in getattr(ours, part).state_dict().items():
            torch.testing.assert_close(value, merged[name], atol=1e-6, rtol=1e-5)


def test_weights_add_up(tiny: Path, trained: Path):
    name = "transformer_blocks.0.attn1.to_q.weight"
    bare, once, twice = (Stack.load(tiny) for _ in range(3))
    apply(once, [Adapter(trained)])
    apply(twice, [Adapter(trained, 0.5), Adapter(trained, 1.5)])
    weights = [stack.decoder.state_dict()[name] for stack in (bare, once, twice)]
    torch.testing.assert_close(weights[2] - weights[0], 2 * (weights[1] - weights[0]), atol=1e-6, rtol=1e-4)
    assert not any(value.requires_grad for value in once.decoder.parameters())


def test_quantized_layers_keep_it_beside_them(tiny: Path, trained: Path):
    wishes = Wishes(bits=8)
    bare = paint(Engine.load(str(tiny), wishes=wishes))
    with_it = paint(Engine.load(str(tiny), wishes=wishes, adapters=[Adapter(trained)]))
    assert not np.array_equal(np.asarray(bare.image), np.asarray(with_it.image))
    without = paint(Engine.load(str(tiny), wishes=wishes, adapters=[Adapter(trained, 0.0)]))
    assert np.array_equal(np.asarray(without.image), np.asarray(bare.image))


def test_an_interrupted_training_goes_on(tiny: Path, pictures: Path, tmp_path: Path):
    def learned(stack: Stack) -> dict[str, torch.Tensor]:
        return {name: value for name, value in stack.decoder.state_dict().items() if "lora_" in name}

    whole, cut, again = (Stack.load(tiny) for _ in range(3))
    items = lora.prepare(whole, pictures)
    lora.train_lora(whole, "decoder", items, tmp_path / "whole", FAST, 4)

    class Cut(Exception):
        pass

    real, calls = lora.decoder_loss, []

    def interrupted(*arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 5:
            raise Cut
        return real(*arguments)

    patch = pytest.MonkeyPatch()
    patch.setattr(lora, "decoder_loss", interrupted)
    patch.setattr(lora.Run, "train", lambda run, loss_of, real=lora.Run.train: real(run, loss_of, save_seconds=0.0))
    with pytest.raises(Cut):
        lora.train_lora(cut, "decoder", items, tmp_path / "cut", FAST, 4)
    patch.undo()
    lora.train_lora(again, "decoder", items, tmp_path / "cut", FAST, 4)
    for name, value in learned(whole).items():
        assert torch.equal(value, learned(again)[name]), name


def test_the_command_writes_an_adapter(tiny: Path, pictures: Path, tmp_path: Path, capsys):
    output = tmp_path / "mine"
    words = ["lora", str(pictures), "--part", "prior", "--checkpoint", str(tiny), "--output", str(output)]
    assert main(["--work", str(tmp_path), *words, "--steps", "2", "--rank", "2"]) == 0
    assert f"the prior's adapter is in {output}" in capsys.readouterr().out
    names = load_file(output / WEIGHTS)
    assert all(name.startswith("base_model.model.model.language_model.layers.") for name in names)
    assert json.loads((output / CONFIG).read_text())["r"] == 2
    assert str(tmp_path) not in (output / CONFIG).read_text()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("octopus", "octopus", 1.0),
        ("octopus:0.7", "octopus", 0.7),
        ("a/b.safetensors:-1", "a/b.safetensors", -1.0),
        ("C:\\loras\\octopus", "C:\\loras\\octopus", 1.0),
        ("octopus:", "octopus:", 1.0),
    ],
)
def test_weights_stand_behind_a_colon(text: str, path: str, weight: float):
    assert Adapter.parse(text) == Adapter(Path(path), weight)


@pytest.mark.parametrize("weight", ["nan", "inf", "11"])
def test_a_weight_is_a_usual_number(weight: str):
    with pytest.raises(CheckpointError, match="not between"):
        Adapter.parse(f"octopus:{weight}")


def changed(trained: Path, folder: Path, config: dict[str, object] | None = None, weights: bool = False) -> Path:
    """The decoder's adapter with another config or with spoiled weights."""
    source = trained / FOLDERS["decoder"]
    tensors = load_file(source / WEIGHTS)
    if weights:
        tensors = {name: torch.full_like(value, torch.nan) for name, value in tensors.items()}
    save_file(tensors, folder / WEIGHTS)
    told = json.loads((source / CONFIG).read_text()) | (config or {})
    (folder / CONFIG).write_text(json.dumps(told), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"peft_type": "LOHA"}, "does not describe a LoRA"),
        ({"modules_to_save": ["proj_out"]}, "modules_to_save"),
        ({"target_modules": "nothing"}, "does not fit"),
        ({"r": 64}, "does not fit"),
        ({"target_modules": ".*to_q"}, "does not fit"),
    ],
)
def test_configs_that_do_not_fit(tiny: Path, trained: Path, tmp_path: Path, config: dict[str, object], match: str):
    with pytest.raises(CheckpointError, match=match):
        apply(Stack.load(tiny), [Adapter(changed(trained, tmp_path, config))])


def test_a_config_imports_nothing(tiny: Path, trained: Path, tmp_path: Path):
    folder = changed(trained, tmp_path, {"megatron_config": {"a": 1}, "megatron_core": "antigravity"})
    apply(Stack.load(tiny), [Adapter(folder)])


def test_other_files_are_one_sentence(tiny: Path, trained: Path, tmp_path: Path):
    stack = Stack.load(tiny)
    with pytest.raises(CheckpointError, match="There is no LoRA in"):
        apply(stack, [Adapter(tmp_path)])
    with pytest.raises(CheckpointError, match="not finite"):
        apply(Stack.load(tiny), [Adapter(changed(trained, tmp_path, weights=True))])
    (tmp_path / WEIGHTS).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        apply(stack, [Adapter(tmp_path)])
    save_file({"other.weight": torch.zeros(2)}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="neither of the prior nor of the decoder"):
        apply(stack, [Adapter(tmp_path)])
    (tmp_path / "pickled.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is not called"):
        apply(stack, [Adapter(tmp_path / "pickled.bin")])


def test_folders_that_cannot_be_learned_from(tiny: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match="There is no folder"):
        lora.read_folder(tmp_path / "none")
    with pytest.raises(TrainingError, match="no pictures"):
        lora.read_folder(tmp_path)
    (tmp_path / "fox.png").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"no caption in fox\.txt"):
        lora.read_folder(tmp_path)
    (tmp_path / "fox.txt").write_text(" \n")
    with pytest.raises(TrainingError, match="has 0 letters"):
        lora.read_folder(tmp_path)
    (tmp_path / "fox.txt").write_text("a fox\n\n the red fox \n")
    assert lora.read_folder(tmp_path) == [(tmp_path / "fox.png", ("a fox", "the red fox"))]
    with pytest.raises(PictureError, match=r"fox\.png"):
        lora.prepare(Stack.load(tiny), tmp_path)

"""The miniature as it is shipped: unmodified diffusers loads it, the engine paints the same, and it knows its world."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import GlmImagePipeline

from glmimage import checkpoint
from glmimage.engine import Engine
from glmimage.events import Result
from glmimage.geometry import Size
from glmimage.prompting import prompt_ids
from glmimage.request import Request
from glmimage.train.evaluate import cases
from glmimage.train.marking import ground_of
from glmimage.train.world import GROUNDS, describe

PROMPT = 'a flat cat at the top left and the word "HELLO" in white at the bottom, on a blue background'
LARGEST = 60_000_000


@pytest.fixture(scope="module")
def folder() -> Path:
    return checkpoint.find("miniature")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine.load("miniature", device="cpu")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> GlmImagePipeline:
    pipeline = GlmImagePipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def paint(engine: Engine, **request: object) -> Result:
    events = engine.run(Request(**request), previews=False)  # type: ignore[arg-type]
    return next(event for event in events if isinstance(event, Result))


def test_it_is_small_and_holds_nothing_pickled(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"}]
    checkpoint.verify(folder)


def test_its_world_is_the_trainers(folder: Path) -> None:
    stored = json.loads((folder / "world.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(describe()))


def test_ids_are_the_processors(pipeline: GlmImagePipeline) -> None:
    for case in cases(20):
        ids = prompt_ids(pipeline.processor, case.prompt, Size(256, 256)).ids
        message = [{"role": "user", "content": [{"type": "text", "text": case.prompt}]}]
        theirs = pipeline.processor.apply_chat_template(
            [message], tokenize=True, return_dict=True, return_tensors="pt", target_h=256, target_w=256
        )
        assert list(ids) == theirs["input_ids"][0].tolist()


def test_plain_generate_fills_the_grid(pipeline: GlmImagePipeline) -> None:
    prior = pipeline.vision_language_encoder
    message = [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]
    inputs = pipeline.processor.apply_chat_template(
        [message], tokenize=True, return_dict=True, return_tensors="pt", target_h=128, target_w=128
    )
    torch.manual_seed(0)
    made = prior.generate(**inputs, max_new_tokens=256 + 16 + 1, do_sample=True)
    codes = made[0, inputs["input_ids"].shape[1] :]
    assert len(codes) == 256 + 16 + 1
    assert int(codes.max()) < prior.config.vq_config.num_embeddings


def test_the_picture_is_the_pipelines(engine: Engine, pipeline: GlmImagePipeline) -> None:
    theirs = pipeline(
        PROMPT,
        width=256,
        height=256,
        num_inference_steps=4,
        guidance_scale=1.5,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    ours = paint(engine, prompt=PROMPT, steps=4, guidance=1.5, seed=7).image
    assert np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)).mean() <= 1


def test_it_paints_the_ground_that_was_asked_for(engine: Engine) -> None:
    right = 0
    for seed, ground in enumerate(GROUNDS):
        picture = paint(
            engine, prompt=f"a cartoon cat in the middle, on a {ground} background", seed=seed, steps=8
        ).image
        right += ground_of(np.asarray(picture)) == ground
    assert right >= len(GROUNDS) - 2


def test_a_prompt_it_never_saw_is_no_crash(engine: Engine) -> None:
    for prompt in ("新年快乐", '<|image|> <sop> 🦊 «quotes» \'n\' "two" "words"', "x"):
        result = paint(engine, prompt=prompt, steps=2)
        assert result.image.size == (256, 256)

"""The engine: its events, its pictures against diffusers' pipeline, stopping anywhere, batches, repetition."""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import GlmImagePipeline
from diffusers.pipelines.glm_image import pipeline_glm_image as upstream
from PIL import Image

from app.presets import read_sizes
from glmimage import flow, latents, stages
from glmimage.decoder import Conditions, denoise
from glmimage.engine import Engine
from glmimage.errors import CheckpointError, GlyphError, PictureError, RequestError, Stopped
from glmimage.events import Event, Note, Preview, Progress, Result, Sketch, plain_codes
from glmimage.geometry import Size, preview_times
from glmimage.glyphs import encode_glyphs
from glmimage.references import prepare
from glmimage.request import Defaults, Layout, Reference, Region, Request, Sampling
from glmimage.source import SEAM, read_source
from glmimage.train.prior import to_preview

if TYPE_CHECKING:
    from glmimage.models import Stack

PROMPT = 'a flat cat on a blue background with the word "HI"'


@pytest.fixture(scope="module")
def engine(tiny_stack: Stack) -> Engine:
    return Engine(tiny_stack)


@pytest.fixture(scope="module")
def pipeline(tiny: Path) -> GlmImagePipeline:
    pipeline = GlmImagePipeline.from_pretrained(tiny, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture_file(folder: Path, name: str, width: int = 64, height: int = 64, seed: int = 0) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return str(folder / name)


def results(events: Iterator[Event]) -> list[Result]:
    return [event for event in events if isinstance(event, Result)]


def difference(left: Image.Image, right: Image.Image) -> float:
    """Mean difference of the pixels, 0..255."""
    assert left.size == right.size
    return float(np.abs(np.asarray(left, dtype=float) - np.asarray(right, dtype=float)).mean())


# --- against diffusers ------------------------------------------------------------------------------------------------


def test_the_picture_is_the_pipelines(engine: Engine, pipeline: GlmImagePipeline) -> None:
    """Prompt in, picture out, on both sides: same seed, same layout, same picture."""
    theirs = pipeline(
        PROMPT,
        width=96,
        height=64,
        num_inference_steps=3,
        guidance_scale=1.5,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    (ours,) = results(engine.run(Request(prompt=PROMPT, width=96, height=64, steps=3, guidance=1.5, seed=7)))
    assert difference(ours.image, theirs) <= 1 / 255


@pytest.mark.parametrize("count", [1, 2])
def test_the_edited_picture_is_the_pipelines(
    engine: Engine, pipeline: GlmImagePipeline, tmp_path: Path, count: int
) -> None:
    files = [picture_file(tmp_path, f"{index}.png", 64 + 32 * index, 64, index) for index in range(count)]
    with upstream_editing_repaired(pipeline):
        theirs = pipeline(
            PROMPT,
            image=[[Image.open(file) for file in files]],
            width=96,
            height=64,
            num_inference_steps=3,
            generator=torch.Generator().manual_seed(7),
        ).images[0]
    references = tuple(Reference(path=file) for file in files)
    request = Request(prompt=PROMPT, width=96, height=64, steps=3, seed=7, references=references)
    (ours,) = results(engine.run(request))
    assert difference(ours.image, theirs) <= 1 / 255
    assert ours.prior.preview is None


@contextlib.contextmanager
def upstream_editing_repaired(pipeline: GlmImagePipeline) -> Iterator[None]:
    """Upstream's editing crashes: `get_image_features` gives a list of [C, h, w], the pipeline concatenates it, and
    `get_image_tokens`, which wants that list, takes the channels for pictures. Here the pipeline's `torch.cat` leaves
    those lists, and only those, alone.
    """
    encoder = type(pipeline.vision_language_encoder)
    original = encoder.get_image_features
    lists: list[object] = []

    def features(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        lists.append(output.pooler_output)
        return output

    class Torch:
        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        @staticmethod
        def cat(parts: Any, dim: int = 0) -> Any:
            return parts if any(parts is known for known in lists) else torch.cat(parts, dim)

    with mock.patch.object(encoder, "get_image_features", features), mock.patch.object(upstream, "torch", Torch()):
        yield


# --- events -----------------------------------------------------------------------------------------------------------


def test_events_tell_the_whole_story(engine: Engine, tmp_path: Path) -> None:
    references = (Reference(path=picture_file(tmp_path, "a.png")),)
    request = Request(prompt=PROMPT, width=64, height=96, count=2, steps=5, references=references)
    events = list(engine.run(request))
    progress = [event for event in events if isinstance(event, Progress)]
    assert list(dict.fromkeys(event.stage for event in progress)) == [
        "references",
        "layout",
        "glyphs",
        "painting",
        "decoding",
    ]
    for stage, picture in {(event.stage, event.picture) for event in progress}:
        steps = [(event.step, event.total) for event in progress if (event.stage, event.picture) == (stage, picture)]
        total = steps[0][1]
        assert steps == [(step, total) for step in range(total + 1)], stage
    assert {event.pictures for event in progress} == {2}
    totals = {event.stage: event.total for event in progress}
    assert totals == {"references": 1, "layout": 2 * 3, "glyphs": 1, "painting": 5, "decoding": 1}

    previews = Counter((event.stage, event.picture) for event in events if isinstance(event, Preview))
    assert set(previews) == {("layout", 0), ("layout", 1), ("painting", 0), ("painting", 1)}
    made = results(iter(events))
    assert [result.index for result in made] == [0, 1]
    assert events[-1] is made[-1]
    for result in made:
        assert result.image.size == (64, 96)
        assert result.prior.target.shape == (3, 2)
        assert result.checkpoint == "tiny"
        assert (result.layout_seed, result.paint_seed) == (result.index, result.index)
        assert set(result.seconds) == {"references", "layout", "glyphs", "painting", "decoding"}
        assert all(seconds > 0 for seconds in result.seconds.values())
        assert (result.request.steps, result.request.guidance) == (5, 1.5)


def test_previews_can_be_left_out(engine: Engine) -> None:
    request = Request(prompt=PROMPT, width=64, height=64, steps=2)
    assert not any(isinstance(event, Preview) for event in engine.run(request, previews=False))


def test_the_sketch_comes_first_and_is_kept(engine: Engine) -> None:
    (result,) = results(engine.run(Request(prompt=PROMPT, width=64, height=128, steps=1)))
    assert result.prior.preview is not None
    assert result.prior.preview.shape == (22, 11)
    assert result.prior.target.shape == (4, 2)


def test_the_checkpoints_defaults_fill_the_gaps(engine: Engine) -> None:
    (result,) = results(engine.run(Request(prompt=PROMPT)))
    assert result.image.size == (64, 64)
    assert result.request.steps == 3


def test_a_snapped_size_is_said(engine: Engine) -> None:
    events = list(engine.run(Request(prompt=PROMPT, width=70, height=64, steps=1)))
    assert [event.text for event in events if isinstance(event, Note)] == [
        "The size 70x64 became 64x64, because sides are multiples of 32 pixels."
    ]
    assert not any(isinstance(event, Note) for event in engine.run(Request(prompt=PROMPT, height=64, steps=1)))


# --- repetition and batches -------------------------------------------------------------------------------------------


def test_the_same_request_gives_the_same_picture(engine: Engine) -> None:
    request = Request(prompt=PROMPT, width=64, height=64, steps=2, seed=3)
    torch.manual_seed(1)
    (first,) = results(engine.run(request))
    torch.manual_seed(2)
    (second,) = results(engine.run(request, previews=False))
    assert np.array_equal(first.image, second.image)
    (other,) = results(engine.run(Request(prompt=PROMPT, width=64, height=64, steps=2, seed=4)))
    assert not np.array_equal(first.prior.target, other.prior.target)


def test_the_global_random_state_is_left_alone(engine: Engine) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(engine.run(Request(prompt=PROMPT, width=64, height=64, steps=1)))
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_is_its_pictures_made_alone(engine: Engine) -> None:
    batch = results(engine.run(Request(prompt=PROMPT, width=64, height=96, steps=2, seed=10, count=3)))
    assert len({result.prior.target.tobytes() for result in batch}) == 3
    for index, result in enumerate(batch):
        (alone,) = results(engine.run(Request(prompt=PROMPT, width=64, height=96, steps=2, seed=10 + index)))
        assert np.array_equal(result.prior.target, alone.prior.target)
        assert difference(result.image, alone.image) == 0


def test_either_seed_can_be_locked(engine: Engine) -> None:
    def batch(**locks: int) -> list[Result]:
        return results(engine.run(Request(prompt=PROMPT, width=64, height=64, steps=2, count=2, seed=20, **locks)))

    one, two = batch(layout_seed=5)
    assert np.array_equal(one.prior.target, two.prior.target)
    assert difference(one.image, two.image) > 0
    assert (one.layout_seed, two.layout_seed, one.paint_seed, two.paint_seed) == (5, 5, 20, 21)
    one, two = batch(paint_seed=5)
    assert not np.array_equal(one.prior.target, two.prior.target)
    one, two = batch(layout_seed=5, paint_seed=5)
    assert difference(one.image, two.image) == 0


def test_sampling_is_passed_on(engine: Engine) -> None:
    (cold,) = results(
        engine.run(Request(prompt=PROMPT, width=64, height=64, steps=1, sampling=Sampling(top_k=1), seed=1))
    )
    (again,) = results(
        engine.run(Request(prompt=PROMPT, width=64, height=64, steps=1, sampling=Sampling(top_k=1), seed=2))
    )
    assert np.array_equal(cold.prior.target, again.prior.target), "the likeliest code every time: the seed is nothing"


# --- sketches and layouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locks", [{}, {"layout_seed": 9}, {"paint_seed": 9}])
def test_a_picked_sketch_becomes_the_picture_of_its_seeds(engine: Engine, locks: dict[str, int]) -> None:
    request = Request(prompt=PROMPT, width=64, height=96, steps=2, seed=30, count=3, **locks)
    events = list(engine.sketch(request))
    sketches = [event for event in events if isinstance(event, Sketch)]
    first = locks.get("layout_seed", 30)
    assert [(sketch.index, sketch.layout_seed) for sketch in sketches] == [(index, first + index) for index in range(3)]
    for sketch in sketches:
        assert sketch.image.size == (64, 96), "the preview's 13 x 19 cells show 2 x 3"
        assert sketch.layout.target is None
    (whole,) = results(engine.run(sketches[1].pick(request)))
    paint_seed = locks.get("paint_seed", 31)
    (plain,) = results(engine.run(replace(request, count=1, layout=None, layout_seed=first + 1, paint_seed=paint_seed)))
    assert whole.prior.layout == plain.prior.layout
    assert whole.prior.layout.preview == sketches[1].layout.preview
    assert difference(whole.image, plain.image) == 0
    assert (whole.layout_seed, whole.paint_seed) == (first + 1, paint_seed)


def test_a_sketch_shows_the_picture_that_a_repeating_preview_holds() -> None:
    defaults, exact = Defaults(width=256, height=256, min_side=128, max_side=512), 0
    sizes = read_sizes()
    for shape, side in itertools.product(sizes.shapes, sizes.sides_for(defaults)):
        size = shape.fit(side, defaults)
        rows, columns = size.prior_grid
        codes = torch.arange(rows * columns).view(rows, columns)
        preview, _ = to_preview(codes, size.preview_grid)
        shown = stages.thumbnail_codes(plain_codes(preview.numpy()), size.prior_grid, repeats=True)
        if preview_times(size.prior_grid, size.preview_grid):
            assert shown.tolist() == codes.tolist(), size
            exact += 1
        else:
            assert shown.tolist() == preview.tolist(), "a coarser one is painted as it is"
    assert exact >= 10


def test_previews_of_a_repeating_layout_have_the_pictures_shape(engine: Engine) -> None:
    request = Request(prompt=PROMPT, width=96, height=64, steps=1)
    repeating = Engine(replace(engine.stack, defaults=replace(engine.defaults, repeats=True)))
    shapes = {event.image.size for event in repeating.run(request) if isinstance(event, Preview)}
    assert {width / height for width, height in shapes} == {1.5}
    shapes = {event.image.size for event in engine.run(request) if isinstance(event, Preview)}
    assert {width / height for width, height in shapes} == {1.5, 19 / 13}, "of the release all of the preview is shown"


def test_a_size_that_was_never_learned_is_painted_with_a_note(engine: Engine) -> None:
    learned = Engine(replace(engine.stack, defaults=replace(engine.defaults, max_pixels=64 * 64)))
    for height, notes in ((64, 0), (96, 1)):
        events = list(learned.run(Request(prompt=PROMPT, width=64, height=height, steps=1)))
        assert len(results(iter(events))) == 1
        assert sum(isinstance(event, Note) and "expect broken things" in event.text for event in events) == notes


def test_a_checkpoint_that_says_its_sizes_warns_of_others(engine: Engine, tmp_path: Path) -> None:
    learned = Engine(replace(engine.stack, defaults=replace(engine.defaults, sizes=(Size(64, 64), Size(96, 64)))))
    for height, notes in ((64, []), (96, ["trained for pictures of 64x64, 96x64, and 64x96 is none of them"])):
        events = list(learned.run(Request(prompt=PROMPT, width=64, height=height, steps=1)))
        assert len(results(iter(events))) == 1
        said = [event.text for event in events if isinstance(event, Note)]
        assert [part in text for part, text in zip(notes, said, strict=True)] == [True] * len(notes)
    photo = Reference(path=picture_file(tmp_path, "a.png", 64, 96))
    edit = Request(prompt=PROMPT, task="edit", references=(photo,), steps=1)
    notes = [event.text for event in learned.run(edit) if isinstance(event, Note)]
    assert [text.endswith("crop the first reference to the shape of one of these.") for text in notes] == [True]


def test_sketches_draw_the_preview_alone(engine: Engine) -> None:
    request = Request(prompt=PROMPT, width=64, height=64, steps=2, count=2)
    progress = [event for event in engine.sketch(request) if isinstance(event, Progress)]
    totals = {event.stage: event.total for event in progress}
    assert totals == {"layout": 256, "glyphs": 1, "painting": 6, "decoding": 1}
    assert max(event.step for event in progress if event.stage == "layout") == 256
    assert {event.pictures for event in progress} == {2}


def test_one_sketch_may_become_several_pictures(engine: Engine) -> None:
    request = Request(prompt=PROMPT, width=64, height=64, steps=1, seed=3)
    (sketch,) = (event for event in engine.sketch(request) if isinstance(event, Sketch))
    made = results(engine.run(replace(request, layout=sketch.layout, count=2)))
    assert made[0].prior.layout.preview == made[1].prior.layout.preview == sketch.layout.preview
    assert made[0].prior.layout.target != made[1].prior.layout.target


def test_a_given_layout_is_painted_without_the_prior(engine: Engine) -> None:
    (first,) = results(engine.run(Request(prompt=PROMPT, width=64, height=96, steps=2, seed=3)))
    locked = Request(prompt=PROMPT, layout=first.prior.layout, steps=2, seed=3, count=2)
    with mock.patch.object(stages, "generate_prior", side_effect=AssertionError("drawn")):
        events = list(engine.run(locked))
    assert "layout" not in {event.stage for event in events if isinstance(event, Progress)}
    same, other = results(iter(events))
    assert difference(same.image, first.image) == 0
    assert difference(other.image, first.image) > 0
    assert other.prior.layout == first.prior.layout
    assert "layout" not in results(engine.run(replace(locked, count=1), previews=False))[0].seconds


def test_sketches_stop_and_have_no_references(engine: Engine, tmp_path: Path) -> None:
    request = Request(prompt=PROMPT, width=64, height=64, steps=2, count=2)
    with pytest.raises(RequestError, match="no sketch"):
        next(iter(engine.sketch(replace(request, references=(Reference(path=picture_file(tmp_path, "a.png")),)))))
    total = len(list(engine.sketch(request)))
    for moment in (0, 3, total // 2, total - 4):
        stop = threading.Event()
        events = engine.sketch(request, stop)
        for _ in range(moment + 1):
            next(events)
        stop.set()
        with pytest.raises(Stopped):
            list(events)


# --- what stays of the source -----------------------------------------------------------------------------------------


def mask_file(folder: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (128, 96)) -> str:
    mask = Image.new("L", size)
    mask.paste(255, box)
    mask.save(folder / "mask.png")
    return str(folder / "mask.png")


def test_a_mask_keeps_what_is_outside_to_the_bit(engine: Engine, tmp_path: Path) -> None:
    source = picture_file(tmp_path, "a.png", 128, 96)
    mask = mask_file(tmp_path, (40, 32, 72, 64))
    request = Request(
        prompt=PROMPT, steps=3, seed=5, count=2, references=(Reference(path=source),), mask=mask, task="edit"
    )
    old = np.asarray(Image.open(source))
    for result in results(engine.run(request)):
        new = np.asarray(result.image)
        assert new.shape == old.shape
        changed = (new != old).any(-1)
        rows, columns = changed.nonzero()
        assert 32 - SEAM <= rows.min() < 36 < 60 < rows.max() < 64 + SEAM
        assert 40 - SEAM <= columns.min() < 44 < 68 < columns.max() < 72 + SEAM
        assert changed[34:62, 42:70].mean() > 0.9
        # Codes of cells that stay are the source's; the mask with its seam touches six of the twelve.
        reference = prepare(engine.stack, request.references)[0].codes.numpy()
        same = np.ones((3, 4), dtype=bool)
        same[0:3, 1:3] = False
        assert np.array_equal(result.prior.target[same], reference[same])


def test_latents_outside_the_mask_follow_the_sources(engine: Engine, tmp_path: Path) -> None:
    reference = Reference(path=picture_file(tmp_path, "a.png", 128, 96))
    request = Request(prompt=PROMPT, references=(reference,), mask=mask_file(tmp_path, (40, 32, 72, 64)))
    (prepared,) = prepare(engine.stack, [reference])
    source = read_source(engine.stack, request, prepared)
    conditions = Conditions(
        codes=prepared.codes[None],
        glyphs=encode_glyphs(engine.stack, ("HI",)),
        empty_glyphs=encode_glyphs(engine.stack, ()),
        references=[prepared],
    )
    noise = torch.randn(1, 16, 12, 16, generator=torch.Generator().manual_seed(0))
    config = engine.stack.scheduler_config
    _, sigmas = flow.schedule(4, 6 * 8, config)
    steps = list(denoise(engine.stack.decoder, config, conditions, noise, steps=4, source=source))
    free = torch.zeros(12, 16, dtype=torch.bool)
    free[3:9, 4:10] = True
    for step, sigma in zip(steps, sigmas[1:].tolist(), strict=True):
        followed = flow.add_noise(prepared.latents, noise, sigma)
        assert torch.equal(step.latents[..., ~free], followed[..., ~free])
        assert (step.latents - followed)[..., free].abs().amin(dim=(0, 1)).max() > 0


@pytest.mark.parametrize("content", [0.0, 0.4, 0.75, 1.0])
def test_content_leaves_out_early_steps(engine: Engine, tmp_path: Path, content: float) -> None:
    reference = Reference(path=picture_file(tmp_path, "a.png", 128, 96))
    request = Request(prompt=PROMPT, steps=5, references=(reference,), content=content, task="style")
    events = list(engine.run(request))
    (result,) = results(iter(events))
    totals = {event.total for event in events if isinstance(event, Progress) and event.stage == "painting"}
    assert totals == {{0.0: 5, 0.4: 3, 0.75: 1, 1.0: 1}[content]}
    assert result.image.size == (128, 96)
    (prepared,) = prepare(engine.stack, [reference])
    back = latents.to_picture(latents.decode(engine.stack.vae, prepared.latents))
    far = difference(result.image, back)
    if content == 0.0:
        plain = replace(request, width=128, height=96, task="text")
        assert difference(result.image, results(engine.run(plain))[0].image) == 0
    else:
        assert far < difference(results(engine.run(replace(request, content=0.0)))[0].image, back)


def test_an_edit_keeps_the_pixels_of_what_its_layout_leaves_alone(engine: Engine, tmp_path: Path) -> None:
    source = picture_file(tmp_path, "a.png", 160, 96)
    reference = Reference(path=source)
    codes = prepare(engine.stack, [reference])[0].codes.numpy().copy()
    codes[1, 0] = (codes[1, 0] + 1) % engine.stack.codes
    request = Request(
        prompt=PROMPT, steps=2, references=(reference,), task="edit", layout=Layout(target=codes.tolist()), keep=True
    )
    kept, old = np.asarray(results(engine.run(request))[0].image), np.asarray(Image.open(source))
    assert np.array_equal(kept[:, 64 + SEAM :], old[:, 64 + SEAM :])
    assert not np.array_equal(kept[:, :64], old[:, :64])
    assert engine.defaults.keep is False
    free = np.asarray(results(engine.run(replace(request, keep=None)))[0].image)
    assert not np.array_equal(free[:, 64 + SEAM :], old[:, 64 + SEAM :])
    # Of another size than its reference, a picture keeps nothing of it; nor does one that is no edit.
    for other in (replace(request, width=96, height=96, layout=None), replace(request, task="style")):
        wanted = results(engine.run(replace(other, keep=False)))[0].image
        assert difference(results(engine.run(other))[0].image, wanted) == 0


def test_the_sources_size_is_said(engine: Engine, tmp_path: Path) -> None:
    reference = Reference(path=picture_file(tmp_path, "a.png", 128, 96))
    request = Request(prompt=PROMPT, steps=1, references=(reference,), content=0.5, width=64, height=64)
    assert [event.text for event in engine.run(request) if isinstance(event, Note)] == [
        "The size 64x64 became 128x96, because the picture keeps its first reference's."
    ]


# --- regions ----------------------------------------------------------------------------------------------------------


def test_regions_at_strength_0_are_nothing(engine: Engine) -> None:
    boxed = Request(
        prompt=PROMPT, width=64, height=96, steps=2, regions=(Region(text="HI", box=(0, 0, 0.5, 0.5)),), seed=3
    )
    (off,) = results(engine.run(replace(boxed, region_strength=0)))
    (plain,) = results(engine.run(replace(boxed, regions=())))
    assert difference(off.image, plain.image) == 0
    (on,) = results(engine.run(boxed))
    (stronger,) = results(engine.run(replace(boxed, region_strength=3)))
    assert np.array_equal(on.prior.target, plain.prior.target)
    assert 0 < difference(on.image, plain.image) < difference(stronger.image, plain.image)


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_stop_works_after_every_single_event(engine: Engine, tmp_path: Path) -> None:
    references = (Reference(path=picture_file(tmp_path, "a.png")),)
    request = Request(prompt=PROMPT, width=64, height=64, steps=3, references=references)
    total = len(list(engine.run(request)))
    # After the last two, the picture is decoded or delivered and there is nothing left to stop.
    for moment in range(total - 2):
        stop = threading.Event()
        events = engine.run(request, stop)
        for _ in range(moment + 1):
            event = next(events)
        stop.set()
        # What still comes may be a preview of work that is done or the name of a next stage, but no further work.
        late: list[Event] = []
        with pytest.raises(Stopped):
            late.extend(events)
        assert all(isinstance(item, Preview) or (isinstance(item, Progress) and item.step == 0) for item in late), event


def test_a_stop_while_a_picture_is_decoded_gives_none(engine: Engine) -> None:
    stop = threading.Event()
    decode = latents.decode

    def decode_slowly(*args: Any, **kwargs: Any) -> torch.Tensor:
        pixels = decode(*args, **kwargs)
        stop.set()
        return pixels

    made: list[Event] = []
    with mock.patch.object(latents, "decode", decode_slowly), pytest.raises(Stopped):
        made.extend(engine.run(Request(prompt=PROMPT, width=64, height=64, steps=2), stop))
    assert [event for event in made if isinstance(event, Result)] == []
    last = made[-1]
    assert isinstance(last, Progress)
    assert (last.stage, last.step) == ("decoding", 0)


def test_stopped_before_it_starts(engine: Engine) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        list(engine.run(Request(prompt=PROMPT), stop))


def test_finished_pictures_of_a_stopped_batch_stay(engine: Engine) -> None:
    stop = threading.Event()
    made = []
    with contextlib.suppress(Stopped):
        for event in engine.run(Request(prompt=PROMPT, width=64, height=64, steps=2, count=3), stop):
            if isinstance(event, Result):
                made.append(event)
                stop.set()
        pytest.fail("not stopped")
    assert [result.index for result in made] == [0]


def test_closing_frees_what_the_run_held(engine: Engine) -> None:
    from glmimage import decoder

    alive: list[weakref.ref[object]] = []
    build = decoder.Painter.__init__

    def remember(self: decoder.Painter, *args: Any, **kwargs: Any) -> None:
        alive.append(weakref.ref(self))
        build(self, *args, **kwargs)

    with mock.patch.object(decoder.Painter, "__init__", remember):
        events = engine.run(Request(prompt=PROMPT, width=64, height=64, steps=4), None, previews=False)
        for event in events:
            if isinstance(event, Progress) and event.stage == "painting" and event.step == 2:
                break
        assert alive
        assert alive[-1]() is not None
        events.close()
    gc.collect()
    assert alive[-1]() is None


def test_an_engine_paints_again_after_it_was_stopped(engine: Engine) -> None:
    request = Request(prompt=PROMPT, width=64, height=64, steps=2)
    (before,) = results(engine.run(request))
    stop = threading.Event()
    events = engine.run(request, stop)
    next(events)
    stop.set()
    with pytest.raises(Stopped):
        list(events)
    (after,) = results(engine.run(request))
    assert difference(before.image, after.image) == 0


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"width": 1024, "height": 1024}, RequestError),
        ({"width": 512, "height": 64}, RequestError),
        ({"references": (Reference(path="/nowhere/a.png"),)}, PictureError),
        ({"prompt": f'the text "{"long " * 500}"'}, (GlyphError, RequestError)),
        ({"regions": (Region(text="HO", box=(0, 0, 1, 1)),)}, RequestError),
        ({"layout": Layout(target=((1, 2),))}, RequestError),
        ({"layout": Layout(target=((1, 2), (3, 10**30)))}, RequestError),
    ],
)
def test_mistakes_are_one_sentence(engine: Engine, changes: dict[str, Any], error: Any) -> None:
    with pytest.raises(error) as caught:
        list(engine.run(Request(**{"prompt": PROMPT, "width": 64, "height": 64, "steps": 1} | changes)))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_load_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model_index\.json"):
        Engine.load(str(tmp_path))


def test_load_finds_a_folder(tiny: Path) -> None:
    engine = Engine.load(str(tiny), device="cpu")
    assert engine.defaults.name == "tiny"
    assert engine.world is None


def test_too_long_a_text_is_refused_before_any_work(engine: Engine) -> None:
    events = engine.run(Request(prompt=f'the text "{"long " * 500}"', width=64, height=64, steps=1))
    with pytest.raises(GlyphError):
        next(events)

"""The sampling loop against transformers' `generate()`, with equal weights and seeds."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Generator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from glmimage import prior
from glmimage.errors import RequestError, Stopped
from glmimage.events import PriorTokens
from glmimage.geometry import Size
from glmimage.models import Stack
from glmimage.prior import Draft, generate_prior, positions
from glmimage.prompting import PromptIds, prompt_ids
from glmimage.references import encode_codes
from glmimage.request import Sampling
from tests.test_prompting import noise_picture, upstream_inputs

PROMPT = "a cat 'HI' on a blue background"


def drain(steps: Generator[Draft, None, tuple[PriorTokens, ...]]) -> tuple[PriorTokens, ...]:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            tokens: tuple[PriorTokens, ...] = done.value
            return tokens


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def flat(tokens: PriorTokens) -> list[int]:
    parts = [tokens.target] if tokens.preview is None else [tokens.preview, tokens.target]
    return [int(code) for part in parts for code in part.ravel()]


def generate(stack: Stack, inputs: Any, prompt: PromptIds, seed: int, **options: Any) -> list[int]:
    """What `generate()` draws, without the token after the last code, on the global generator that it needs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ids = stack.prior.generate(**inputs, max_new_tokens=prompt.count + 1, do_sample=True, **options)
    drawn: list[int] = ids[0, len(prompt.ids) : -1].tolist()
    return drawn


@pytest.fixture(scope="module")
def upstream(tiny_stack: Stack) -> Stack:
    """A second stack, so that upstream's side runs on weights that our loop has not laid down anew."""
    return Stack.load(tiny_stack.folder)


SAMPLINGS = (
    Sampling(),
    Sampling(temperature=1.0, top_p=1.0, top_k=0),
    Sampling(temperature=0.5, top_p=0.3),
    Sampling(temperature=1.3, top_p=0.9, top_k=5),
    Sampling(top_k=50, top_p=1.0),
    Sampling(top_k=1),
)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda s: f"{s.temperature}-{s.top_p}-{s.top_k}")
@pytest.mark.parametrize("size", [Size(64, 64), Size(96, 256)], ids=str)
def test_codes_are_generates(tiny_stack: Stack, upstream: Stack, size: Size, sampling: Sampling) -> None:
    prompt = prompt_ids(tiny_stack.processor, PROMPT, size)
    inputs = upstream_inputs(upstream, PROMPT, size, [])
    options = {name: value for name, value in sampling.to_json().items() if value is not None}
    theirs = generate(upstream, inputs, prompt, 7, **options)
    ours = drain(generate_prior(tiny_stack, prompt, seeded(7), sampling=sampling))[0]
    assert flat(ours) == theirs
    assert ours.target.shape == size.prior_grid
    assert ours.preview is not None
    assert ours.preview.shape == size.preview_grid


@pytest.mark.parametrize("count", [1, 2])
def test_codes_with_references_are_generates(tiny_stack: Stack, upstream: Stack, count: int) -> None:
    pictures = [noise_picture(96, 64, 1), noise_picture(128, 160, 2)][:count]
    size = Size(128, 96)
    codes = [encode_codes(tiny_stack, picture) for picture in pictures]
    prompt = prompt_ids(tiny_stack.processor, PROMPT, size, [tuple(code.shape) for code in codes])
    inputs = upstream_inputs(upstream, PROMPT, size, pictures)
    theirs = generate(upstream, inputs, prompt, 3)
    ours = drain(generate_prior(tiny_stack, prompt, seeded(3), references=codes))[0]
    assert flat(ours) == theirs
    assert ours.preview is None
    others = drain(generate_prior(tiny_stack, prompt, seeded(3), references=[code.flip(0) for code in codes]))[0]
    assert flat(others) != theirs, "the references' codes matter"


@pytest.mark.parametrize("wrong", [0, 1, 3], ids=["all right", "all wrong", "every third wrong"])
def test_guesses_change_no_code(
    tiny_stack: Stack, upstream: Stack, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    size = Size(64, 64)
    prompt = prompt_ids(tiny_stack.processor, PROMPT, size)
    theirs = generate(upstream, upstream_inputs(upstream, PROMPT, size, []), prompt, 7)
    told = [(code + 1) % 64 if wrong and place % wrong == 0 else code for place, code in enumerate(theirs)]
    monkeypatch.setattr(prior, "_lay_out", lambda prompt, references: [prior._Guess("told", code=c) for c in told])
    monkeypatch.setattr(prior, "_WORTH", -1.0)
    passes = []
    step = prior._Run.step
    monkeypatch.setattr(prior._Run, "step", lambda run, codes, drawn: passes.append(drawn) or step(run, codes, drawn))
    assert flat(drain(generate_prior(tiny_stack, prompt, seeded(7)))[0]) == theirs
    if wrong == 0:
        assert len(passes) == -(-(prompt.count - 1) // (prior._LONGEST + 1))
    if wrong == 1:
        assert len(passes) == prompt.count - 1


@pytest.mark.parametrize("guessing", [True, False])
def test_hidden_tokens_are_those_of_an_attention_mask(
    tiny_stack: Stack, upstream: Stack, monkeypatch: pytest.MonkeyPatch, guessing: bool
) -> None:
    """The likeliest codes, one after the other, are upstream's in one pass with the matrix of all pairs."""
    if not guessing:
        monkeypatch.setattr(prior, "_WORTH", 2.0)
    prompt = prompt_ids(tiny_stack.processor, PROMPT, Size(64, 64))
    tokens, count = len(prompt.ids), prompt.count
    hidden = torch.rand(count, tokens, generator=torch.Generator().manual_seed(0)) < 0.4
    draw = partial(generate_prior, tiny_stack, prompt, seeded(1), sampling=Sampling(top_k=1))
    codes = flat(drain(draw(hidden_NT=hidden))[0])
    assert codes != flat(drain(draw())[0])

    model = upstream.prior.model.language_model
    ids = torch.tensor([[*prompt.ids, *codes[:-1]]])
    seen = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    # The state before each code draws it.
    seen[tokens:, :tokens] &= ~hidden[1:]
    with torch.no_grad():
        states = model(
            input_ids=ids,
            position_ids=positions(prompt)[:, None, :-1],
            attention_mask=seen[None, None],
            use_cache=False,
        ).last_hidden_state
        likeliest = upstream.prior.lm_head(states[0, tokens - 1 :])[:, : upstream.codes].argmax(-1)
    assert codes == likeliest.tolist()


def test_guesses_repeat_what_shows_the_same_cell(tiny_stack: Stack) -> None:
    prompt = prompt_ids(tiny_stack.processor, PROMPT, Size(64, 64))
    guesses = prior._lay_out(prompt, [])
    assert prompt.drawn == ((16, 16), (2, 2))
    assert guesses[0] is None
    kinds = [guess.kind for guess in guesses[1:] if guess]
    assert (kinds.count("left"), kinds.count("above")) == (2, 1)
    assert [guess.place for guess in guesses[-4:] if guess] == [119, 127, 247, 255]
    edit = prompt_ids(tiny_stack.processor, PROMPT, Size(64, 64), [(2, 4), (2, 2)])
    codes = [torch.zeros(2, 4, dtype=torch.long), torch.arange(4).view(2, 2)]
    assert [guess.code for guess in prior._lay_out(edit, codes) if guess] == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [Size(64, 64), Size(96, 256)], ids=str)
def test_known_codes_are_followed_by_the_same_ones(tiny_stack: Stack, size: Size) -> None:
    prompt = prompt_ids(tiny_stack.processor, PROMPT, size)
    (whole,) = drain(generate_prior(tiny_stack, prompt, seeded(7)))
    assert whole.preview is not None
    preview = whole.preview.ravel().tolist()
    one, other = drain(generate_prior(tiny_stack, prompt, seeded(7, 8), known=preview))
    assert flat(one) == flat(whole)
    assert other.preview is not None
    assert other.preview.ravel().tolist() == preview
    assert flat(other) != flat(whole)


def test_single_codes_can_be_known(tiny_stack: Stack) -> None:
    codes = [torch.arange(6).view(2, 3)]
    prompt = prompt_ids(tiny_stack.processor, PROMPT, Size(96, 64), [(2, 3)])
    (drawn,) = drain(generate_prior(tiny_stack, prompt, seeded(1), references=codes))
    (partly,) = drain(generate_prior(tiny_stack, prompt, seeded(1), references=codes, known=[9, -1, -1, 8, 7, -1]))
    (wholly,) = drain(generate_prior(tiny_stack, prompt, seeded(2), references=codes, known=flat(drawn)))
    assert [flat(partly)[place] for place in (0, 3, 4)] == [9, 8, 7]
    assert flat(wholly) == flat(drawn)


def test_a_kind_of_guess_that_fails_is_given_up(tiny_stack: Stack) -> None:
    guesses = prior._Guesses(prompt_ids(tiny_stack.processor, PROMPT, Size(64, 64)), [])
    codes = torch.arange(260)[None]
    assert guesses.write(codes.clone(), 1) > 0
    for place in range(1, 256):
        assert not guesses.judge(codes, place, codes[:, place])
    assert guesses.write(codes.clone(), 100) == 0
    assert guesses.write(codes.clone(), 259) == 0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_positions_are_upstreams(tiny_stack: Stack, count: int) -> None:
    pictures = [noise_picture(96, 64), noise_picture(128, 160)][:count]
    size = Size(128, 96)
    inputs = upstream_inputs(tiny_stack, PROMPT, size, pictures)
    prompt = prompt_ids(tiny_stack.processor, PROMPT, size, [Size(*picture.size).prior_grid for picture in pictures])
    model = tiny_stack.prior.model
    theirs, _ = model.get_rope_index(
        inputs["input_ids"], image_grid_thw=inputs["image_grid_thw"], images_per_sample=inputs["images_per_sample"]
    )
    drawn = model._cached_decode_position_ids[0, :, :-1]  # without the end token, which we do not draw
    assert torch.equal(positions(prompt), torch.cat([theirs[:, 0], drawn], dim=1))


def test_positions_by_hand() -> None:
    prompt = PromptIds(ids=(9, 5, 5, 8, 7), image_token=5, references=((1, 2),), drawn=((2, 2),))
    time, row, column = positions(prompt).tolist()
    assert time == [0, 1, 1, 3, 4, 5, 5, 5, 5]
    assert row == [0, 1, 1, 3, 4, 5, 5, 6, 6]
    assert column == [0, 1, 2, 3, 4, 5, 6, 5, 6]


def test_long_sections_are_upstreams(tiny_stack: Stack, upstream: Stack) -> None:
    """Half of each head turns: in three sections in the release, interleaved in the small checkpoints."""
    import copy

    size = Size(64, 64)
    stacks = []
    for stack in (tiny_stack, upstream):
        model = copy.deepcopy(stack.prior)
        rotary = model.model.language_model.rotary_emb
        rotary.mrope_section = [1, 1, 2]
        stacks.append(dataclasses.replace(stack, prior=model, kept={}))
    prompt = prompt_ids(tiny_stack.processor, PROMPT, size)
    theirs = generate(stacks[1], upstream_inputs(upstream, PROMPT, size, []), prompt, 1)
    assert flat(drain(generate_prior(stacks[0], prompt, seeded(1)))[0]) == theirs
    assert flat(drain(generate_prior(tiny_stack, prompt, seeded(1)))[0]) != theirs


def test_a_batch_is_its_pictures(tiny_stack: Stack) -> None:
    prompt = prompt_ids(tiny_stack.processor, PROMPT, Size(64, 64))
    together = drain(generate_prior(tiny_stack, prompt, seeded(1, 2, 3)))
    alone = [drain(generate_prior(tiny_stack, prompt, seeded(seed)))[0] for seed in (1, 2, 3)]
    assert [flat(tokens) for tokens in together] == [flat(tokens) for tokens in alone]
    assert len({tuple(flat(tokens)) for tokens in together}) == 3


def test_drafts_grow_by_one_code(tiny_stack: Stack) -> None:
    prompt = prompt_ids(tiny_stack.processor, PROMPT, Size(64, 64))
    drafts = list(generate_prior(tiny_stack, prompt, seeded(1, 2)))
    assert [draft.step for draft in drafts] == list(range(1, prompt.count + 1))
    assert {draft.total for draft in drafts} == {prompt.count}
    assert all(draft.codes_BN.shape == (2, draft.step) for draft in drafts)
    assert all(torch.equal(draft.codes_BN, drafts[-1].codes_BN[:, : draft.step]) for draft in drafts)
    assert drafts[0].grids == prompt.drawn
    assert int(drafts[-1].codes_BN.max()) < tiny_stack.codes


def test_the_global_generator_is_left_alone(tiny_stack: Stack) -> None:
    before = torch.get_rng_state()
    drain(generate_prior(tiny_stack, prompt_ids(tiny_stack.processor, PROMPT, Size(64, 64)), seeded(1)))
    assert torch.equal(before, torch.get_rng_state())


def test_stop_is_read_at_every_code(tiny_stack: Stack) -> None:
    stop = threading.Event()
    prompt = prompt_ids(tiny_stack.processor, PROMPT, Size(64, 64))
    drafts = generate_prior(tiny_stack, prompt, seeded(1), stop=stop)
    for _ in range(5):
        next(drafts)
    stop.set()
    with pytest.raises(Stopped):
        next(drafts)
    with pytest.raises(Stopped):
        next(generate_prior(tiny_stack, prompt, seeded(1), stop=stop))


def test_a_prompt_that_does_not_fit(tiny_stack: Stack) -> None:
    prompt = prompt_ids(tiny_stack.processor, "cat " * 4500, Size(64, 64))
    with pytest.raises(RequestError, match="4096"):
        next(generate_prior(tiny_stack, prompt, seeded(1)))


def test_the_modules_keep_their_values(tiny_stack: Stack, upstream: Stack) -> None:
    """Weights are laid down anew in memory, not changed; upstream's own forward pass goes on working with them."""
    prompt = prompt_ids(tiny_stack.processor, PROMPT, Size(64, 64))
    drain(generate_prior(tiny_stack, prompt, seeded(1)))
    first = tiny_stack.prior.model.language_model.layers[0].self_attn
    assert first.q_proj.weight.stride(0) == 1
    storages = {module.weight.untyped_storage().data_ptr() for module in (first.q_proj, first.k_proj, first.v_proj)}
    assert len(storages) == 1
    laid = first.k_proj.weight.data_ptr()
    drain(generate_prior(tiny_stack, prompt, seeded(1)))
    assert first.k_proj.weight.data_ptr() == laid, "a second run lays nothing down"
    for (name, ours), (_, theirs) in zip(
        tiny_stack.prior.named_parameters(), upstream.prior.named_parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_other_linear_layers_are_called_as_they_are(tiny_stack: Stack, upstream: Stack) -> None:
    """Quantized layers and adapters are modules of other kinds; they give the same codes here."""
    import copy

    class Wrapped(torch.nn.Module):
        def __init__(self, inner: torch.nn.Linear) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.inner(x)
            return y

    model = copy.deepcopy(upstream.prior)
    for layer in model.model.language_model.layers:
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(layer.self_attn, name, Wrapped(getattr(layer.self_attn, name)))
        layer.mlp.down_proj = Wrapped(layer.mlp.down_proj)
    model.lm_head = Wrapped(model.lm_head)
    prompt = prompt_ids(tiny_stack.processor, PROMPT, Size(64, 64))
    wrapped = drain(generate_prior(dataclasses.replace(upstream, prior=model, kept={}), prompt, seeded(4)))[0]
    assert flat(wrapped) == flat(drain(generate_prior(tiny_stack, prompt, seeded(4)))[0])


def upstream_draw(logits: Tensor, rule: prior._Rule, seed: int) -> int:
    warpers = LogitsProcessorList([TemperatureLogitsWarper(rule.temperature)])
    if rule.top_k:
        warpers.append(TopKLogitsWarper(rule.top_k))
    warpers.append(TopPLogitsWarper(rule.top_p))
    chances = warpers(torch.zeros(1, 1, dtype=torch.long), logits).softmax(-1)
    return int(torch.multinomial(chances, 1, generator=seeded(seed)[0]))


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0, 10.0, 40.0])
@pytest.mark.parametrize("rule", [prior._Rule(0.9, 0, 0.75), prior._Rule(1.2, 40, 0.95), prior._Rule(0.7, 0, 0.01)])
def test_draws_are_the_warpers_on_a_wide_codebook(spread: float, rule: prior._Rule) -> None:
    """At 4,096 codes and more the best few hundred are looked at first; flat and peaked rows take different ways."""
    codes, width = 4096, 4112
    noise = torch.empty(1, width)
    for seed in range(20):
        logits = torch.full((1, width), -torch.inf)
        logits[:, :codes] = torch.randn(1, codes, generator=seeded(seed)[0]) * spread
        drawn = prior._draw(logits[:, :codes].clone(), rule, noise, seeded(seed))
        assert drawn.tolist() == [upstream_draw(logits, rule, seed)]


def test_draws_on_the_edge_of_top_p() -> None:
    """Four equal chances and top-p exactly 0.75: rounding decides, so both must round alike."""
    width = 2048
    logits = torch.full((1, width), -1e4)
    logits[0, [5, 70, 900, 2000]] = 0.0
    rule = prior._Rule(1.0, 0, 0.75)
    drawn = [int(prior._draw(logits.clone(), rule, torch.empty(1, width), seeded(seed))) for seed in range(50)]
    assert drawn == [upstream_draw(logits, rule, seed) for seed in range(50)]


def test_sampling_falls_back_to_the_checkpoint_then_to_generates_defaults(tiny_stack: Stack) -> None:
    from transformers import GenerationConfig

    assert prior._rule(tiny_stack, Sampling()) == (0.9, 0, 0.75)
    assert prior._rule(tiny_stack, Sampling(temperature=2, top_k=3, top_p=1)) == (2.0, 3, 1.0)

    @dataclasses.dataclass
    class Bare:
        generation_config: GenerationConfig

    bare = dataclasses.replace(tiny_stack, prior=Bare(GenerationConfig()))  # type: ignore[arg-type]
    assert prior._rule(bare, Sampling()) == (1.0, 50, 1.0)

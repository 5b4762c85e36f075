"""The benchmark's formula agrees with torch's count, and its ways to paint give what they are called after."""

import pytest
import torch

from glmimage.train.release import TINY, build_decoder
from tests.benchmarks.references import COUNTS, WAYS, Painting, count, formula, on_meta, whole


@pytest.mark.parametrize("references", COUNTS)
def test_the_formula_is_what_torch_counts(references: int):
    config = {key: value for key, value in dict(build_decoder(TINY).config).items() if not key.startswith("_")}
    decoder = on_meta(config)
    told = whole(formula(decoder, 128, references), 20)
    counted = whole(count(decoder, 128, references), 20)
    for way in WAYS:
        # The formula leaves out the modulations, one row a layer; in a decoder of 32 numbers that is something.
        assert counted[way] == pytest.approx(told[way], rel=0.05)
    assert counted["kept"] < counted["recomputed"] < counted["full"]


def test_kept_keys_and_values_are_what_a_step_attends_to():
    decoder = build_decoder(TINY)
    painting = Painting(decoder, 64, 2)
    with torch.no_grad():
        kept = painting.remember()
        assert len(kept) == TINY.decoder_layers
        heads, width = TINY.decoder_heads, TINY.decoder_head_dim
        assert all(part.shape == (1, heads, 2 * 16, width) for layer in kept for part in layer)
        painting.step(kept)

"""The error tree."""

from __future__ import annotations

import inspect

import pytest

from glmimage import errors


def test_every_error_is_a_glmimage_error() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert len(kinds) >= 7
    assert all(issubclass(kind, errors.GLMImageError) for kind in kinds)


def test_stopped_carries_nothing() -> None:
    with pytest.raises(errors.GLMImageError):
        raise errors.Stopped

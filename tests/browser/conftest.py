"""What every test of the page may ask for. On a busy machine a browser may miss a moment: a test that fails is tried
once more, which the summary says; one that fails twice fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.visits import browser, make_visit, reader, visit

__all__ = ["browser", "make_visit", "reader", "visit"]
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))

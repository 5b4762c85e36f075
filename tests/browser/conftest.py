"""What every test of the page may ask for."""

from tests.browser.visits import browser, make_visit, visit

__all__ = ["browser", "make_visit", "visit"]

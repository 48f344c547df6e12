"""The browser's fixtures for the tests of the page."""

from tests.browser import browser as browser
from tests.browser import page as page

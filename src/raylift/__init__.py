"""CT volumes from one X-ray or two. Research software, not a medical device."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("raylift")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

DISCLAIMER = "Research software, not a medical device, not for clinical use."

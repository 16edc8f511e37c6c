"""CT volumes from one X-ray or two. Research software, not a medical device."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("raylift")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

DISCLAIMER = "Research software, not a medical device, not for clinical use."


def __getattr__(name: str):
    """`raylift.reconstruct` and `raylift.Result`, loaded when first asked for: `import raylift` stays quick."""
    if name in ("reconstruct", "Result"):
        from importlib import import_module

        module = import_module("raylift.reconstruct")  # a module that can be called
        return module if name == "reconstruct" else module.Result
    raise AttributeError(f"module 'raylift' has no attribute {name!r}")

"""Results to look at: pictures, tables, one page that opens offline, and the folder that holds them."""

from raylift.report.folder import reconstruct_to, write_result

__all__ = ["reconstruct_to", "write_result"]

"""Pages of lists. Of those that are in memory a page's token is its offset."""

from __future__ import annotations

from bacalhau.model.refusals import RefusalReason, refused


def read_page(token: str, size: int, size_max: int, default: int | None = None) -> tuple[int, int]:
    """(offset, size) of a page whose token is an offset. Raises Refused(MALFORMED)."""
    if token and not (token.isascii() and token.isdigit() and len(token) < 12):
        raise refused(RefusalReason.MALFORMED, "page_token is not one that this node gave")
    return int(token or 0), min(page_size(size) or default or size_max, size_max)


def page_size(size: int) -> int:
    """The size that a request asks for, 0 where it leaves that open. Raises Refused(MALFORMED)."""
    if size < 0:
        raise refused(RefusalReason.MALFORMED, f"page_size must not be negative, got {size}")
    return size

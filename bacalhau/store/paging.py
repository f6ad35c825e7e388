"""Page tokens: where a list goes on, as an opaque word for clients.

A token holds the sort key of the last row of a page, so that rows which come or go meanwhile neither repeat
nor hide others. It says which list it belongs to; strangers may send anything, and get a refusal.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final

from bacalhau.model.refusals import RefusalReason, refused

PAGE_SIZE_MAX: Final = 1000
_TOKEN_CHARS_MAX: Final = 2048

Key = tuple[int | str, ...]


def page_size(asked: int, default: int) -> int:
    """Rows of a page: the default where none are asked for, and never more than PAGE_SIZE_MAX."""
    return min(asked, PAGE_SIZE_MAX) if asked > 0 else default


def page_token(listing: str, key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps([listing, *key], separators=(",", ":")).encode()).decode()


def page_key(listing: str, token: str, types: tuple[type, ...]) -> Key | None:
    """The sort key in a token, None for the empty token. Raises Refused(MALFORMED)."""
    if not token:
        return None
    wrong = refused(
        RefusalReason.MALFORMED, "page_token is none of this list: give back what the page before came with"
    )
    if len(token) > _TOKEN_CHARS_MAX:
        raise wrong
    try:
        found = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise wrong from error
    if not isinstance(found, list) or found[:1] != [listing]:
        raise wrong
    key = tuple(found[1:])
    if tuple(type(part) for part in key) != types:
        raise wrong
    for part in key:
        if isinstance(part, int) and not 0 <= part < 2**63:
            raise wrong
        # JSON can spell a lone surrogate, which is no text that SQLite takes.
        if isinstance(part, str) and not part.isprintable():
            raise wrong
    return key

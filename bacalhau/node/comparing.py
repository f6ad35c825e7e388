"""What is compared of a result, from the blocks of its folder: on the node that commits to it and on its requester."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs import reader
from bacalhau.ipfs.errors import InvalidBlock
from bacalhau.market.verification import compared_digest
from bacalhau.model.verification import Compared
from bacalhau.wire.limits import MAX_OUTPUTS

if TYPE_CHECKING:
    from bacalhau.ipfs.blockstore import BlockStore
    from bacalhau.model.cid import Cid
    from bacalhau.model.verification import Verification

_EXIT_CODE: Final = re.compile(rb"-?[0-9]{1,10}")
_EXIT_CODE_BYTES_MAX: Final = 11


def compare(store: BlockStore, result: Cid, verification: Verification) -> Compared:
    """Reads the folder's own block and the exit code, from blocks that were verified when they came. Raises IpfsError
    where it is no result folder."""
    exit_code: int | None = None
    stdout: bytes | None = None
    outputs: dict[str, bytes] = {}
    for link in reader.links(store, result):
        match link.name:
            case "exitCode":
                exit_code = _exit_code(store, link.cid)
            case "stdout":
                stdout = link.cid.raw
            case "stderr":
                pass
            case name:
                outputs[name] = link.cid.raw
        if len(outputs) > MAX_OUTPUTS:
            raise InvalidBlock(f"{result} has more than {MAX_OUTPUTS} outputs")
    if exit_code is None or stdout is None:
        raise InvalidBlock(f"{result} is no result folder: exitCode or stdout is missing")
    return Compared(
        compared_digest(exit_code, None if verification.ignore_stdout else stdout, outputs), exit_code
    )


def _exit_code(store: BlockStore, cid: Cid) -> int:
    text = b"".join(reader.read_file(store, cid, length=_EXIT_CODE_BYTES_MAX + 1))
    if not _EXIT_CODE.fullmatch(text):
        raise InvalidBlock(f"{cid} should be an exit code, and is {text!r}")
    return int(text)

"""What can go wrong in the embedded IPFS, as one tree.

    IpfsError
    ├── InvalidBlock       bytes that are not what their codec says (dag-pb, UnixFS)
    ├── InvalidCar         a CAR stream that is malformed, cut short or not verified
    ├── UnsupportedDag     well formed, but of a kind that is not handled here
    ├── BlockNotFound      the store does not hold the block
    ├── PathNotFound       a path inside a DAG leads nowhere
    ├── WrongKind          a file where a folder is needed, or the other way round
    ├── UnsafePath         a name or symlink that would leave the folder it belongs to
    ├── LimitExceeded      larger, deeper or more numerous than the caller allows
    ├── ImportRefused      the local file or folder cannot be imported
    ├── ExportRefused      the destination cannot be written to
    ├── StoreFull          the disk or the store's own limit is reached
    ├── NoPeerHas          no source delivered the block
    └── KuboError          a Kubo node cannot do what it is asked for
        ├── KuboUnavailable    it does not answer, or not in time
        └── KuboRefused        it answers with an error

A CID that is not one is `bacalhau.model.cid.InvalidCid`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bacalhau.model.cid import Cid


class IpfsError(Exception):
    """Base of everything the embedded IPFS raises on purpose."""


class InvalidBlock(IpfsError):
    """Bytes that are not what their codec says."""


class InvalidCar(IpfsError):
    """A CAR stream that is malformed, cut short, or holds a block that does not match its CID."""


class UnsupportedDag(IpfsError):
    """A DAG of a kind that is not handled here, such as dag-cbor."""


class BlockNotFound(IpfsError):
    """The store does not hold the block `cid`."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(f"the block {cid} is not in the store")
        self.cid = cid


class PathNotFound(IpfsError):
    """A path inside a DAG leads nowhere."""


class WrongKind(IpfsError):
    """A file where a folder is needed, or the other way round."""


class UnsafePath(IpfsError):
    """A name or symlink that would leave the folder it belongs to."""


class LimitExceeded(IpfsError):
    """Larger, deeper or more numerous than the caller allows."""


class ImportRefused(IpfsError):
    """The local file or folder cannot be imported."""


class ExportRefused(IpfsError):
    """The destination cannot be written to."""


class StoreFull(IpfsError):
    """The disk or the store's own limit is reached; the store stays usable."""


class NoPeerHas(IpfsError):
    """No source delivered the block `cid` of the DAG `root`; `reasons` says by source name why not.

    With `broke_off` a source failed or fell silent, so that it may have the block when it is asked again.
    """

    def __init__(self, cid: Cid, root: Cid, reasons: dict[str, str], *, broke_off: bool = False) -> None:
        part = "" if cid == root else f", a part of {root}"
        detail = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        super().__init__(f"no peer has CID {cid}{part}" + (f" ({detail})" if detail else ""))
        self.cid = cid
        self.root = root
        self.reasons = reasons
        self.broke_off = broke_off


class KuboError(IpfsError):
    """A Kubo node cannot do what it is asked for; the message names it by its URL."""


class KuboUnavailable(KuboError):
    """The Kubo node does not answer, or not in time: it may do so later."""


class KuboRefused(KuboError):
    """The Kubo node answers with an error, such as for a block that it does not have."""

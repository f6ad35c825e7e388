"""What one peer wants from this node: bounded, the most urgent first.

Owns which wants wait for an answer, and which were for blocks that are not here. No stream, no store.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.model.cid import Cid
    from bacalhau.p2p.bitswap.messages import Message, Want

WANTS_MAX: Final = 1024
"""As many as Kubo takes from one peer: more make its messages wait unread."""
_UNMET_MAX: Final = 1024


class WantList:
    """The wants of one peer, in the order in which they are answered."""

    def __init__(self) -> None:
        self._waiting: dict[Cid, Want] = {}
        self._is_sorted = True
        self._unmet: OrderedDict[Cid, Want] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Nothing more should be read from the peer before something was answered."""
        return len(self._waiting) >= WANTS_MAX

    def update(self, message: Message) -> None:
        """Take in what a message says of its sender's wants."""
        if message.full:
            self._waiting.clear()
            self._unmet.clear()
        for want in message.wants:
            self._unmet.pop(want.cid, None)
            if want.cancel:
                self._waiting.pop(want.cid, None)
                continue
            known = self._waiting.get(want.cid)
            if known is None or known.have or not want.have:
                # A want for the block stands above one for the news that it is there.
                self._waiting[want.cid] = want
                self._is_sorted = False

    def take(self, count: int) -> list[Want]:
        """Up to `count` wants, the most urgent first, those of one priority in the order of their coming. They are
        gone from the list: what is not answered has to be put back."""
        if not self._is_sorted:
            self._waiting = dict(sorted(self._waiting.items(), key=lambda item: -item[1].priority))
            self._is_sorted = True
        taken: list[Want] = []
        for cid in list(self._waiting)[:count]:
            taken.append(self._waiting.pop(cid))
        return taken

    def put_back(self, wants: Iterable[Want]) -> None:
        """Wants that were taken and not answered; what the peer said of them since counts."""
        returned = {want.cid: want for want in wants if want.cid not in self._waiting}
        if returned:
            self._waiting = returned | self._waiting
            self._is_sorted = False

    def keep_unmet(self, wants: Iterable[Want]) -> None:
        """Wants for blocks that are not here: answered when the blocks come, the oldest forgotten first."""
        for want in wants:
            self._unmet[want.cid] = want
        while len(self._unmet) > _UNMET_MAX:
            self._unmet.popitem(last=False)

    @property
    def unmet(self) -> list[Cid]:
        """Blocks that are wanted and not here."""
        return list(self._unmet)

    def came(self, cids: Iterable[Cid]) -> bool:
        """Blocks are here now: those that were wanted wait for their answer again. Whether there was one."""
        met = [want for cid in cids if (want := self._unmet.pop(cid, None)) is not None]
        self.put_back(met)
        return bool(met)

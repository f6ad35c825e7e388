"""One ledger of reservations: soft while a bid stands, hard once it is awarded, never above capacity."""

from __future__ import annotations

from bacalhau.model.resources import Resources


class CapacityLedger:
    """What is held of a node's capacity. Amounts are never oversubscribed.

    Soft reservations are kept by offer id, hard ones by execution id; the two never meet, for both ids are
    chosen by strangers.
    """

    __slots__ = ("_hard", "_soft", "capacity", "free")

    def __init__(self, capacity: Resources) -> None:
        self.capacity = capacity
        self.free = capacity
        self._soft: dict[str, Resources] = {}
        self._hard: dict[str, Resources] = {}

    def reserve(self, key: str, resources: Resources, *, hard: bool = False) -> bool:
        """Holds the resources under a new key; False, with nothing changed, where they are not free."""
        held, free = self._hard if hard else self._soft, self.free
        if key in held:
            raise AssertionError(f"{key} holds a reservation already: {held[key]}")
        if not resources.fits_in(free):
            return False
        held[key] = resources
        self.free = free.minus(resources)
        return True

    def harden(self, offer_id: str, execution_id: str) -> None:
        """Turns the soft reservation of an offer into the hard one of an execution."""
        if execution_id in self._hard:
            raise AssertionError(f"{execution_id} holds a reservation already: {self._hard[execution_id]}")
        self._hard[execution_id] = self._soft.pop(offer_id)

    def release(self, key: str, *, hard: bool = False) -> bool:
        """Gives back what is held under the key; False where nothing is."""
        resources = (self._hard if hard else self._soft).pop(key, None)
        if resources is None:
            return False
        self.free = self.free.plus(resources) if self._soft or self._hard else self.capacity
        return True

    def keys(self, *, hard: bool) -> tuple[str, ...]:
        return tuple(self._hard if hard else self._soft)

    def check(self) -> None:
        """What is free and what is held add up to the capacity, and nothing is oversubscribed."""
        held = Resources()
        for resources in (*self._soft.values(), *self._hard.values()):
            held = held.plus(resources)
        assert held.plus(self.free) == self.capacity, (held, self.free, self.capacity)
        assert held.fits_in(self.capacity), (held, self.capacity)

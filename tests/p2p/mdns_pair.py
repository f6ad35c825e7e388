"""Two members with mDNS, in the network namespace that this is run in: prints how each was found by the other."""

from __future__ import annotations

import asyncio

from tests.node.live import until
from tests.p2p.networks import member


async def main() -> None:
    listen = ("/ip4/0.0.0.0/tcp/0",)
    async with member(listen=listen, mdns=True) as a, member(listen=listen, mdns=True) as b:
        await until(lambda: a.ears.met or b.ears.met, "they have met", 30)
        met = {(a.node_id, *one) for one in a.ears.met} | {(b.node_id, *one) for one in b.ears.met}
        assert met <= {(a.node_id, b.node_id, "mdns"), (b.node_id, a.node_id, "mdns")}, met
        assert "10.77.0.1" in a.address, a.address
    print("met by mdns")


if __name__ == "__main__":
    asyncio.run(main())

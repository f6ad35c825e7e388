"""Bitswap without the rest of a node, as a process with a store on disk: nodes that know each other use gRPC instead.

swap_blocks.py serve FOLDER FILE            prints its multiaddr and the file's CID, and serves until it is ended
swap_blocks.py fetch FOLDER MULTIADDR CID   prints the seconds that it took
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from bacalhau.ipfs.fetch import fetch_dag
from bacalhau.ipfs.importer import import_path
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.model.cid import Cid
from bacalhau.p2p.bitswap.exchange import Bitswap
from bacalhau.p2p.bitswap.source import BitswapExchange
from bacalhau.p2p.host import Host
from bacalhau.wire.identity import NodeKey


async def main(command: str, folder: str, *arguments: str) -> None:
    store = PackBlockStore(Path(folder))
    bitswap = Bitswap(store)
    host = Host(NodeKey.generate(), ("/ip4/127.0.0.1/tcp/0",), (bitswap,))
    await host.start()
    if command == "serve":
        print((await host.addresses())[0], import_path(store, Path(arguments[0])).cid, flush=True)
        await asyncio.Event().wait()
    address, cid = arguments
    await host.connect(address)
    start = time.perf_counter()
    await fetch_dag(Cid.parse(cid), store, [], exchange=BitswapExchange(host.bridge, bitswap))
    print(time.perf_counter() - start)
    await host.stop()
    store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

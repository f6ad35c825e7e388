"""A node's libp2p host with Bitswap and a store on disk, as a process, so that its memory can be measured.

`python -m tests.p2p.bitswap.victim FOLDER` prints its multiaddr, then answers lines with lines of JSON:
`count` with its counters, `fetch CID LIMIT_BYTES` with how the fetch ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bacalhau.ipfs.errors import IpfsError
from bacalhau.ipfs.fetch import FetchLimits
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.model.cid import Cid
from tests.p2p.bitswap.hosts import swapping


async def main(folder: str) -> None:
    store = PackBlockStore(Path(folder))
    async with swapping(store) as swapper:
        print((await swapper.host.addresses())[0], flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := await reader.readline():
            command, *arguments = line.decode().split()
            if command == "fetch":
                try:
                    fetched = await swapper.fetch(
                        Cid.parse(arguments[0]), limits=FetchLimits(max_bytes=int(arguments[1]))
                    )
                    answer = asdict(fetched)
                except IpfsError as error:
                    answer = {"failed": type(error).__name__, "message": str(error)}
            else:
                answer = asdict(swapper.counters)
            print(json.dumps(answer), flush=True)
    store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

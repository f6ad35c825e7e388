"""The importer alone, as a process: stores FILE in the block store FOLDER; prints its CID and peak memory in KiB."""

from __future__ import annotations

import sys
from pathlib import Path

from memory import peak_kib

from bacalhau.ipfs.importer import import_path
from bacalhau.ipfs.packstore import PackBlockStore

store = PackBlockStore(Path(sys.argv[1]))
print(import_path(store, Path(sys.argv[2])).cid, peak_kib())
store.close()

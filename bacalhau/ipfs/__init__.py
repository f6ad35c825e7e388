"""Embedded IPFS: content by CID, without a daemon.

    blockstore   BlockStore, CollectableStore (the ports), MemoryBlockStore
    packstore    PackBlockStore: the durable one
    layout       ImportOptions, UNIXFS_V1_2025, Imported: what decides a CID
    importer     import_path, import_stream, import_files, TreeImport
    reader       stat, ls, resolve, read_file, measure, walk; TreeLimits
    exporter     export to the disk
    dag          iter_dag, iter_cids, find_missing, serve_blocks: block by block
    car          write_car, read_car, import_car
    pins         Pins, garbage_collect
    fetch        BlockSource (the port), fetch_dag: blocks from outside
    kubo_rpc     KuboRpc: a Kubo node by its RPC API
    kubo_store   KuboBlockStore, KuboSource: that node as a store and as a source
    errors       everything raised on purpose, as one tree

    store = PackBlockStore(directory)
    imported = import_path(store, Path("data"))
    fetched = await fetch_dag(cid, store, sources)
    export(store, cid, Path("out"))

The CID itself is `bacalhau.model.cid`. All of it is synchronous and meant for threads,
except `fetch`. Nothing here knows gRPC, jobs or the network. Import the modules: this one
imports none, so that it costs nothing.
"""

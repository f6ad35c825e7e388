// A Helia node that is told what to do by lines on stdin, and answers each with a line of JSON:
//   connect MULTIADDR · add PATH (a file or folder) · get CID PATH (write it there) · blocks (how many it holds)
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, stat } from 'node:fs/promises'
import path from 'node:path'
import readline from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { globSource, unixfs } from '@helia/unixfs'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { MemoryBlockstore } from 'blockstore-core'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'

const blockstore = new MemoryBlockstore()
const libp2p = {
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify() }
}
const helia = withBitswap(withLibp2pLight(createHeliaLight({ blockstore }), libp2p))
await helia.start()
const fs = unixfs(helia)

async function add (source) {
  if ((await stat(source)).isFile()) {
    return fs.addByteStream(createReadStream(source))
  }
  let root
  for await (const entry of fs.addAll(globSource(source, '**/*', { hidden: true }), { wrapWithDirectory: true })) {
    root = entry.cid
  }
  return root
}

async function write (cid, target) {
  const found = await fs.stat(cid)
  if (found.type !== 'directory') {
    await pipeline(fs.cat(cid), createWriteStream(target))
    return
  }
  await mkdir(target)
  // A few at once: each is a question and an answer.
  const waiting = new Set()
  for await (const entry of fs.ls(cid)) {
    const work = write(entry.cid, path.join(target, entry.name)).finally(() => waiting.delete(work))
    waiting.add(work)
    if (waiting.size >= 32) await Promise.race(waiting)
  }
  await Promise.all(waiting)
}

async function answer ([command, ...words]) {
  switch (command) {
    case 'connect':
      await helia.libp2p.dial(multiaddr(words[0]))
      return {}
    case 'add':
      return { cid: (await add(words[0])).toString() }
    case 'get':
      await write(CID.parse(words[0]), words[1])
      return {}
    case 'blocks': {
      let count = 0
      for await (const _ of blockstore.getAll()) count++
      return { count }
    }
    default:
      throw new Error(`unknown command ${command}`)
  }
}

console.log(JSON.stringify({ address: helia.libp2p.getMultiaddrs()[0].toString() }))
for await (const line of readline.createInterface({ input: process.stdin })) {
  let said
  try {
    said = await answer(line.split(' '))
  } catch (error) {
    said = { error: String(error.stack ?? error) }
  }
  console.log(JSON.stringify(said))
}
await helia.stop()
process.exit(0)

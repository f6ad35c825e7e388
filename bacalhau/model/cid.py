"""Content identifiers: what a CID is, how it is written, and whether bytes match it.

Owns the CID value, its text and binary forms and the check of a block against its
multihash. Knows nothing of stores, DAG formats or the network, and does no I/O.

Sources: the CID, multihash and multibase specifications (github.com/multiformats).
Multibase text is coded by libipld; the binary form is parsed here because libipld
ignores bytes that follow a CID, and a CID inside a link must be all of its field.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import libipld

from bacalhau.model.varint import varint

if TYPE_CHECKING:
    from collections.abc import Callable

RAW: Final = 0x55
DAG_PB: Final = 0x70

_IDENTITY: Final = 0x00
_SHA2_256_PREFIX: Final = b"\x12\x20"
_VERSION_0_PREFIX: Final = b"\x00\x70\x12\x20"

# The longest digest that go-cid accepts, and the text of such a CID in base 2.
MAX_DIGEST_BYTES: Final = 128
MAX_TEXT_LENGTH: Final = 1 + 8 * (MAX_DIGEST_BYTES + 16)

# Multihash code -> (name, digest length, constructor): what hashlib computes and is not broken.
_HASHES: Final[dict[int, tuple[str, int, Callable[..., Any]]]] = {
    0x12: ("sha2-256", 32, hashlib.sha256),
    0x13: ("sha2-512", 64, hashlib.sha512),
    0x14: ("sha3-512", 64, hashlib.sha3_512),
    0x15: ("sha3-384", 48, hashlib.sha3_384),
    0x16: ("sha3-256", 32, hashlib.sha3_256),
    0x20: ("sha2-384", 48, hashlib.sha384),
    0xB220: ("blake2b-256", 32, lambda data: hashlib.blake2b(data, digest_size=32)),
    0xB260: ("blake2s-256", 32, lambda data: hashlib.blake2s(data, digest_size=32)),
}
_REFUSED_HASHES: Final = {0x11: "sha1", 0xD4: "md4", 0xD5: "md5", 0x1E: "blake3", 0x56: "dbl-sha2-256"}
_WEAK_HASHES: Final = frozenset({0x11, 0xD4, 0xD5})


class InvalidCid(ValueError):
    """The text or bytes are not a CID; the message says what is wrong with them."""


class UnsupportedHash(ValueError):
    """The CID is well formed, but its hash cannot be checked here, so its blocks are refused."""


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """A content identifier.

    `multihash` is the binary multihash: code and digest length as varints, then the digest.
    A version 0 CID is always dag-pb with sha2-256; `Cid` values made by the constructors
    below keep that, so build them there rather than by hand.
    """

    version: int
    codec: int
    multihash: bytes

    def __hash__(self) -> int:
        return hash(self.multihash)

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Read the text form: base58 for version 0, any multibase libipld knows for version 1.

        Raises InvalidCid.
        """
        if not text:
            raise InvalidCid("the CID is empty")
        if len(text) > MAX_TEXT_LENGTH:
            raise InvalidCid(f"a CID has at most {MAX_TEXT_LENGTH} characters, this has {len(text)}")
        version_0 = len(text) == 46 and text.startswith("Qm")
        try:
            _, raw = libipld.decode_multibase("z" + text if version_0 else text)
        except ValueError as error:
            raise InvalidCid(f"{_shown(text)} is not a CID: its characters are no known multibase") from error
        cid = cls.from_raw(raw)
        if cid.version == 0 and not version_0:
            raise InvalidCid(f"{_shown(text)} is not a CID: version 0 is written in plain base58 (Qm...)")
        return cid

    @classmethod
    def from_raw(cls, raw: bytes) -> Cid:
        """Read the binary form; it must be the whole of `raw`. Raises InvalidCid."""
        cid, end = cls.read(raw, 0)
        if end != len(raw):
            raise InvalidCid(f"{len(raw) - end} bytes follow the CID")
        return cid

    @classmethod
    def read(cls, data: bytes, start: int) -> tuple[Cid, int]:
        """Read a binary CID at `start` of `data`; return it and where it ends. Raises InvalidCid."""
        if data[start : start + 2] == _SHA2_256_PREFIX:
            end = start + 34
            if len(data) < end:
                raise InvalidCid("the CID is cut short")
            return cls(0, DAG_PB, bytes(data[start:end])), end
        version, position = _read_varint(data, start)
        if version != 1:
            raise InvalidCid(f"CID version {version} is unknown; versions 0 and 1 are")
        codec, multihash_start = _read_varint(data, position)
        _, position = _read_varint(data, multihash_start)
        length, position = _read_varint(data, position)
        if length > MAX_DIGEST_BYTES:
            raise InvalidCid(f"the CID's digest has {length} bytes, the limit is {MAX_DIGEST_BYTES}")
        end = position + length
        if len(data) < end:
            raise InvalidCid("the CID is cut short")
        return cls(1, codec, bytes(data[multihash_start:end])), end

    @classmethod
    def from_prefix(cls, prefix: bytes, block: bytes | memoryview) -> Cid:
        """The CID of `block` by a prefix: version, codec, hash and digest length, as varints.

        Raises InvalidCid, and UnsupportedHash where the hash cannot be computed here.
        """
        version, position = _read_varint(prefix, 0)
        codec, hash_start = _read_varint(prefix, position)
        code, position = _read_varint(prefix, hash_start)
        length, position = _read_varint(prefix, position)
        if position != len(prefix):
            raise InvalidCid(f"{len(prefix) - position} bytes follow the prefix of a CID")
        if version > 1:
            raise InvalidCid(f"CID version {version} is unknown; versions 0 and 1 are")
        if version == 0 and prefix != _VERSION_0_PREFIX:
            raise InvalidCid("a version 0 CID is always dag-pb with sha2-256")
        if code not in _HASHES or length != _HASHES[code][1]:
            raise UnsupportedHash(f"the hash {code:#x} of {length} bytes is not supported")
        return cls(version, codec, prefix[hash_start:] + _HASHES[code][2](block).digest())

    @classmethod
    def of(cls, codec: int, block: bytes | memoryview, *, version: int = 1) -> Cid:
        """The sha2-256 CID of a block. Version 0 is for dag-pb only."""
        if version == 0 and codec != DAG_PB:
            raise InvalidCid("a version 0 CID is always dag-pb")
        return cls(version, codec, _SHA2_256_PREFIX + hashlib.sha256(block).digest())

    @property
    def raw(self) -> bytes:
        """The binary form."""
        if self.version == 0:
            return self.multihash
        if self.codec < 0x80:
            return bytes((1, self.codec)) + self.multihash
        return b"\x01" + varint(self.codec) + self.multihash

    @property
    def prefix(self) -> bytes:
        """All that is not the digest: version, codec, hash and digest length. Also of version 0, whose binary form
        leaves the first two out."""
        _, position = _read_varint(self.multihash, 0)
        _, position = _read_varint(self.multihash, position)
        return bytes((self.version,)) + varint(self.codec) + self.multihash[:position]

    @property
    def identity_digest(self) -> bytes | None:
        """The block itself where the CID carries it (the identity hash), else None."""
        if self.multihash[0] != _IDENTITY:
            return None
        return self.multihash[2:] if len(self.multihash) < 0x82 else self.multihash[3:]

    def verify(self, block: bytes | memoryview) -> bool:
        """Whether `block` is what this CID names. Raises UnsupportedHash where that cannot be known."""
        multihash = self.multihash
        if multihash[:2] == _SHA2_256_PREFIX:
            return multihash[2:] == hashlib.sha256(block).digest()
        constructor, digest = self._hash()
        return bool(digest == (bytes(block) if constructor is None else constructor(block).digest()))

    def check_hash(self) -> None:
        """Raise UnsupportedHash where no block can be verified against this CID."""
        if self.multihash[:2] != _SHA2_256_PREFIX:
            self._hash()

    def _hash(self) -> tuple[Callable[..., Any] | None, bytes]:
        """The hash (None for identity) and the digest. Raises UnsupportedHash."""
        code, position = _read_varint(self.multihash, 0)
        length, position = _read_varint(self.multihash, position)
        digest = self.multihash[position:]
        if code == _IDENTITY:
            return None, digest
        if code not in _HASHES:
            name = _REFUSED_HASHES.get(code, f"{code:#x}")
            reason = "is too weak" if code in _WEAK_HASHES else "is not supported"
            raise UnsupportedHash(f"the hash {name} of {self} {reason}; add the data again with sha2-256")
        name, digest_length, constructor = _HASHES[code]
        if length != digest_length:
            raise UnsupportedHash(f"{self} keeps only {length} of the {digest_length} bytes of {name}")
        return constructor, digest

    def __str__(self) -> str:
        if self.version == 0:
            return libipld.encode_multibase("z", self.multihash)[1:]
        return libipld.encode_multibase("b", self.raw)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Read an unsigned varint of the multiformats kind: at most 9 bytes, and the shortest form."""
    value = shift = 0
    start = position
    while True:
        if position >= len(data):
            raise InvalidCid("the CID is cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and position - start > 1:
                raise InvalidCid("a number in the CID is not in its shortest form")
            return value, position
        shift += 7
        if shift > 56:
            raise InvalidCid("a number in the CID is longer than 9 bytes")

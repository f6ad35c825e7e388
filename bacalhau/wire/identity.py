"""A node's key and its name: Ed25519, and the libp2p peer id of its public half.

Owns the key file. Knows nothing of what is signed, and imports no libp2p.

Source: the peer id specification of libp2p (github.com/libp2p/specs, peer-ids/peer-ids.md): an Ed25519 public
key is serialised as a protobuf of 36 bytes, and short enough that the peer id is that itself under the
identity multihash, in base58btc. A private key is serialised as 64 bytes, seed and public key, which is also
what Kubo keeps in Identity.PrivKey of its configuration (base64).
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

import libipld
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

if TYPE_CHECKING:
    from pathlib import Path

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_SEED_BYTES: Final = 32

# Field 1 (type) = 1 (Ed25519), field 2 (data), and its length.
PUBLIC_KEY_HEADER: Final = b"\x08\x01\x12\x20"
_PRIVATE_KEY_HEADER: Final = b"\x08\x01\x12\x40"
# Multihash code 0 (identity) and the length of a serialised public key.
_PEER_ID_HEADER: Final = b"\x00\x24" + PUBLIC_KEY_HEADER
# 38 bytes that begin with those six always make 52 characters.
NODE_ID_CHARS: Final = 52
# A key file has 93 bytes; this much is read of whatever the path leads to.
_MAX_FILE_BYTES: Final = 4096


class InvalidKey(ValueError):
    """The text or file is no private key that can be used; the message says why, and what to do."""


class InvalidNodeId(ValueError):
    """The text is not the peer id of an Ed25519 key."""


def node_id_of(public_key: bytes) -> str:
    """The peer id ("12D3KooW…") of an Ed25519 public key of 32 bytes."""
    return libipld.encode_multibase("z", _PEER_ID_HEADER + public_key)[1:]


def public_key_of(node_id: str) -> bytes:
    """The Ed25519 public key (32 bytes) that a peer id consists of. Raises InvalidNodeId."""
    if len(node_id) != NODE_ID_CHARS or not node_id.isascii():
        raise InvalidNodeId(f"it must have {NODE_ID_CHARS} characters and begin with 12D3KooW")
    try:
        _, raw = libipld.decode_multibase("z" + node_id)
    except ValueError as error:
        raise InvalidNodeId("it is not written in base58") from error
    if len(raw) != len(_PEER_ID_HEADER) + PUBLIC_KEY_BYTES or not raw.startswith(_PEER_ID_HEADER):
        raise InvalidNodeId("it is not the peer id of an Ed25519 key, which begins with 12D3KooW")
    return bytes(raw[len(_PEER_ID_HEADER) :])


def is_signed_by(public_key: bytes, data: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of `data` by the key; False also for what is no key or signature at all."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(public_key).verify(data, signature)
    except BadSignatureError:
        return False
    return True


class NodeKey:
    """The private key of a node. Its text form is a secret and never part of its repr."""

    __slots__ = ("_signing_key", "node_id", "public_key")

    def __init__(self, seed: bytes) -> None:
        """From a seed of 32 bytes (RFC 8032's private key)."""
        self._signing_key = SigningKey(seed)
        self.public_key = bytes(self._signing_key.verify_key)
        self.node_id = node_id_of(self.public_key)

    @classmethod
    def generate(cls) -> NodeKey:
        return cls(secrets.token_bytes(_SEED_BYTES))

    @classmethod
    def from_text(cls, text: str) -> NodeKey:
        """From Kubo's Identity.PrivKey, which is also the form of the key file. Raises InvalidKey."""
        try:
            raw = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidKey(
                "the private key is not base64: give Identity.PrivKey of Kubo's configuration"
            ) from error
        if not raw.startswith(_PRIVATE_KEY_HEADER) or len(raw) != len(_PRIVATE_KEY_HEADER) + 64:
            raise InvalidKey(
                "the private key is no Ed25519 key of libp2p: make one with 'ipfs init' or 'ipfs key gen'"
            )
        seed, public_key = raw[4:36], raw[36:]
        key = cls(seed)
        if key.public_key != public_key:
            raise InvalidKey("the private key is damaged: its two halves do not fit each other")
        return key

    @property
    def seed(self) -> bytes:
        """The 32 bytes that the key is made of: the secret itself."""
        return bytes(self._signing_key)

    def to_text(self) -> str:
        """The private key as Kubo keeps it: base64 of libp2p's serialisation."""
        raw = _PRIVATE_KEY_HEADER + self.seed + self.public_key
        return base64.b64encode(raw).decode("ascii")

    @classmethod
    def load(cls, path: Path) -> NodeKey:
        """From a key file. Raises InvalidKey where others can read it or it holds no key, and OSError."""
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise InvalidKey(
                    f"others can read the private key in {path} (mode {mode:04o}): run chmod 600 {path}"
                )
            data = file.read(_MAX_FILE_BYTES)
        try:
            return cls.from_text(data.decode("ascii"))
        except ValueError as error:  # InvalidKey, or not ASCII
            raise InvalidKey(
                f"{path} holds no private key of a node: restore it from a backup ({error})"
            ) from error

    def save(self, path: Path) -> None:
        """Writes a key file of mode 0600, all or nothing. Raises FileExistsError: keys are never replaced."""
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(self.to_text() + "\n")
                file.flush()
                os.fsync(descriptor)
            os.link(temporary, path)
        finally:
            temporary.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @classmethod
    def load_or_create(cls, path: Path) -> NodeKey:
        """From the key file, which is made where there is none. Raises as load does."""
        try:
            return cls.load(path)
        except FileNotFoundError:
            key = cls.generate()
        try:
            key.save(path)
        except FileExistsError:  # another process was faster
            return cls.load(path)
        return key

    def sign(self, data: bytes) -> bytes:
        """An Ed25519 signature of 64 bytes."""
        return self._signing_key.sign(data).signature

    def __repr__(self) -> str:
        return f"NodeKey({self.node_id})"

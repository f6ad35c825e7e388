"""Node keys, peer ids and the key file."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.wire.identity import (
    InvalidKey,
    InvalidNodeId,
    NodeKey,
    is_signed_by,
    node_id_of,
    public_key_of,
)

if TYPE_CHECKING:
    from pathlib import Path

SEED = bytes(range(32))


def test_peer_id_of_a_known_key_is_the_one_that_kubo_gave_it() -> None:
    # Both from the configuration that `ipfs init` wrote.
    key = NodeKey.from_text(
        "CAESQHT0H891ACHo/CnQdjNfG3S/Y+Alrdy5LdDmEeZeWLXuk65ZnAIA8q2yuolZLJPbIJby0h8Oq6DABKgBF4WcUfc="
    )
    assert key.node_id == "12D3KooWKkrJ9UBuAGM5PT4AAbMWfuGySL5xq4zXQMK376JMH8BQ"


def test_a_key_is_taken_from_kubos_configuration_and_from_its_text_alone() -> None:
    key = NodeKey(SEED)
    configuration = json.dumps(
        {"Identity": {"PeerID": key.node_id, "PrivKey": key.to_text()}, "Datastore": {}}
    )
    assert NodeKey.from_foreign(configuration).node_id == key.node_id
    assert NodeKey.from_foreign(key.to_text() + "\n").node_id == key.node_id


@pytest.mark.parametrize(
    "text", ["", "{", "{}", '{"Identity": 1}', '{"Identity": {"PrivKey": 1}}', "CAESQHT0"]
)
def test_what_holds_no_key_of_kubos_is_refused(text: str) -> None:
    with pytest.raises(InvalidKey):
        NodeKey.from_foreign(text)


def test_peer_id_of_a_fresh_kubo_key_and_its_signature_are_kubos(kubo: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "IPFS_PATH": str(tmp_path)}

    def ipfs(*arguments: str, data: bytes = b"") -> str:
        run = subprocess.run(
            [kubo, *arguments], env=environment, input=data, capture_output=True, check=True, timeout=30
        )
        return run.stdout.decode()

    ipfs("init", "--profile=test")
    identity = json.loads((tmp_path / "config").read_text())["Identity"]
    key = NodeKey.from_text(identity["PrivKey"])
    assert key.node_id == identity["PeerID"]
    assert key.to_text() == identity["PrivKey"]


def test_kubo_takes_our_key_and_gives_it_our_peer_id(kubo: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "IPFS_PATH": str(tmp_path / "repo")}
    subprocess.run(
        [kubo, "init", "--profile=test"], env=environment, capture_output=True, check=True, timeout=30
    )
    key = NodeKey(SEED)
    (tmp_path / "key").write_bytes(base64.b64decode(key.to_text()))
    imported = subprocess.run(
        [kubo, "key", "import", "--ipns-base=b58mh", "ours", tmp_path / "key"],
        env=environment,
        capture_output=True,
        check=True,
        timeout=30,
        text=True,
    )
    assert imported.stdout.strip() == key.node_id


def test_public_key_of_rfc_8032_test_1_is_derived_from_its_seed() -> None:
    key = NodeKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974")


@given(st.binary(min_size=32, max_size=32))
def test_a_node_id_is_its_public_key(public_key: bytes) -> None:
    node_id = node_id_of(public_key)
    assert node_id.startswith("12D3KooW")
    assert public_key_of(node_id) == public_key


@given(
    st.text(max_size=60)
    | st.text("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", min_size=52, max_size=52)
)
def test_other_text_is_refused_as_no_node_id(text: str) -> None:
    with pytest.raises(InvalidNodeId):
        public_key_of(text)


def test_peer_id_of_an_rsa_key_is_refused() -> None:
    with pytest.raises(InvalidNodeId):
        public_key_of("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")


@given(st.binary(max_size=40), st.binary(max_size=70))
def test_random_bytes_are_no_signature(public_key: bytes, signature: bytes) -> None:
    assert not is_signed_by(public_key, b"data", signature)


def test_a_signature_holds_for_its_data_and_key_alone() -> None:
    key = NodeKey(SEED)
    signature = key.sign(b"data")
    assert is_signed_by(key.public_key, b"data", signature)
    assert not is_signed_by(key.public_key, b"date", signature)
    assert not is_signed_by(NodeKey.generate().public_key, b"data", signature)


def test_a_saved_key_is_loaded_again_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    key = NodeKey.generate()
    old_mask = os.umask(0)
    try:
        key.save(path)
    finally:
        os.umask(old_mask)
    assert path.stat().st_mode & 0o777 == 0o600
    assert NodeKey.load(path).node_id == key.node_id
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    first = NodeKey.load_or_create(path)
    with pytest.raises(FileExistsError):
        NodeKey.generate().save(path)
    assert NodeKey.load_or_create(path).node_id == first.node_id
    assert list(tmp_path.iterdir()) == [path]


def test_many_that_create_the_key_at_once_get_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    with ThreadPoolExecutor(8) as pool:
        found = {key.node_id for key in pool.map(NodeKey.load_or_create, [path] * 16)}
    assert len(found) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o622])
def test_a_key_file_open_to_others_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "node.key"
    NodeKey.generate().save(path)
    path.chmod(mode)
    with pytest.raises(InvalidKey, match=f"chmod 600 {path}"):
        NodeKey.load(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"CAESQHT0", b"\xff\xfe", base64.b64encode(b"\x08\x00\x12\x40" + bytes(64)), b"!" * 90],
    ids=["empty", "cut", "binary", "rsa", "no-base64"],
)
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidKey, match="restore it from a backup"):
        NodeKey.load(path)


def test_a_key_whose_halves_do_not_fit_is_refused() -> None:
    raw = bytearray(base64.b64decode(NodeKey(SEED).to_text()))
    raw[-1] ^= 1
    with pytest.raises(InvalidKey, match="damaged"):
        NodeKey.from_text(base64.b64encode(raw).decode())


def test_a_key_never_shows_its_secret() -> None:
    key = NodeKey(SEED)
    assert repr(key) == f"NodeKey({key.node_id})"

"""The peer API's certificate: self-signed, and pinned by the node's signed record instead of by an authority.

gRPC's servers refuse Ed25519 certificates, so the node's own key cannot be the certificate's; an ECDSA P-256 key is
made beside it, and the record carries the certificate's digest.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

SERVER_NAME = "bacalhau"
"""The name in every node's certificate; what a caller checks is the pinned digest, not a name."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its private key, both PEM."""

    certificate_pem: bytes
    key_pem: bytes

    @property
    def digest(self) -> bytes:
        return certificate_digest(self.certificate_pem)


def certificate_digest(certificate_pem: bytes) -> bytes:
    """SHA-256 of the certificate in DER form, as node records carry it."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate_pem.decode("ascii"))).digest()


def load_or_make(folder: Path) -> Certificate:
    """The node's certificate, made at the first call and kept in `peer.crt` and `peer.key` (mode 0600). A pair that is
    damaged is made anew: others take it by the node's next record."""
    certificate_path, key_path = folder / "peer.crt", folder / "peer.key"
    if certificate_path.exists() and key_path.exists():
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_path, key_path, password="")
            return Certificate(certificate_path.read_bytes(), key_path.read_bytes())
        except (ssl.SSLError, ValueError) as error:
            log.warning("%s and %s are damaged, and made anew: %s", certificate_path, key_path, error)
    made = _make()
    for path, content in ((key_path, made.key_pem), (certificate_path, made.certificate_pem)):
        temporary = path.with_name(f".{path.name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    return made


def _make() -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start.replace(year=2120))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )

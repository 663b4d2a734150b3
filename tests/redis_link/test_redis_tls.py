"""TLS with certificates of a made-up authority."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from links import linked, make_link, running, until
from redis_server import RedisServer, free_port

from linguad.net.redis.status import Limits

MakeServer = Callable[..., RedisServer]
Key = ec.EllipticCurvePrivateKey


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, cert.pem and key.pem for 127.0.0.1."""
    home = tmp_path_factory.mktemp("tls")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("Test CA", ca_key, ca_key, "Test CA", ca=True)
    (home / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    server = _certificate("redis", key, ca_key, "Test CA")
    (home / "cert.pem").write_bytes(server.public_bytes(serialization.Encoding.PEM))
    (home / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return home


def _certificate(name: str, key: Key, issuer_key: Key, issuer: str, *, ca: bool = False) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
    )
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture
def tls_port(make_server: MakeServer, certificates: Path) -> int:
    port = free_port()
    make_server(
        f"tls-port {port}",
        f"tls-cert-file {certificates / 'cert.pem'}",
        f"tls-key-file {certificates / 'key.pem'}",
        f"tls-ca-cert-file {certificates / 'ca.pem'}",
    )
    return port


async def test_tls_with_a_certificate_of_our_own(tls_port: int, certificates: Path) -> None:
    own = "&".join(
        f"{name}={certificates / file}"
        for name, file in (
            ("ssl_ca_certs", "ca.pem"),
            ("ssl_certfile", "cert.pem"),
            ("ssl_keyfile", "key.pem"),
        )
    )
    async with linked(f"rediss://127.0.0.1:{tls_port}?{own}") as link:
        assert await link.call(("ECHO", bytes(300_000))) == bytes(300_000)
        assert link.status().server == f"rediss://127.0.0.1:{tls_port}"


@pytest.mark.parametrize(
    ("query", "reason"),
    [("", "its certificate is not accepted: "), ("?ssl_ca_certs=/nowhere.pem", "No such file or directory")],
)
async def test_tls_that_is_not_accepted(tls_port: int, query: str, reason: str) -> None:
    link = make_link(f"rediss://127.0.0.1:{tls_port}{query}")
    async with running(link):
        await until(lambda: link.status().failures)
        assert link.status().reason.startswith(reason)


async def test_plain_bytes_where_tls_is_spoken_and_the_other_way_round(
    tls_port: int, server: RedisServer
) -> None:
    for url in (f"redis://127.0.0.1:{tls_port}", f"rediss://127.0.0.1:{server.port}"):
        # a Redis that is spoken to in TLS waits for the end of the line
        link = make_link(url, Limits(connect_seconds=0.5))
        async with running(link):
            await until(lambda link=link: link.status().failures)
            assert link.status().reason

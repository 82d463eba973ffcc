"""What the doctor advises where the way to the API is set wrong."""

import ssl
from pathlib import Path

import pytest
import trustme

from tests.api.raw_server import RawServer, answer
from tests.cli.test_doctor import KEY, examined, remedies

ELSEWHERE = "https://api.example.invalid"


@pytest.mark.parametrize("certificates", ["", "no certificate"], ids=["missing", "no certificate"])
def test_certificates_that_cannot_be_read_are_told_by_the_name_of_the_setting(
    tmp_path: Path, certificates: str
) -> None:
    file = tmp_path / "certificates.pem"
    if certificates:
        file.write_text(certificates, encoding="utf-8")
    done = examined(SYNC_BASE_URL=ELSEWHERE, SYNC_API_KEY=KEY, SSL_CERT_FILE=str(file))
    assert (done.returncode, done.stderr) == (1, "")
    assert (
        "api        The certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read" in done.stdout
    )
    assert "Correct SSL_CERT_FILE and SSL_CERT_DIR in the environment" in remedies(done.stdout)["api"]


def test_a_proxy_that_is_none_is_told_by_the_name_of_the_setting() -> None:
    done = examined(SYNC_BASE_URL=ELSEWHERE, SYNC_API_KEY=KEY, HTTPS_PROXY="foo://jane:hunter2@proxy.example")
    assert (done.returncode, done.stderr) == (1, "")
    assert "HTTPS_PROXY" in remedies(done.stdout)["api"]
    assert "hunter2" not in done.stdout


def test_an_address_with_no_such_page_is_no_matter_of_an_id() -> None:
    nothing = answer(404, {"statusCode": 404, "message": "Cannot GET /v9/v2/errors", "error": "Not Found"})
    with RawServer([nothing, nothing]) as api:
        done = examined(SYNC_BASE_URL=f"{api.url}/v9", SYNC_API_KEY=KEY)
    assert done.returncode == 1
    assert "SYNC_BASE_URL" in remedies(done.stdout)["api"]


def test_a_certificate_that_nobody_vouches_for_is_a_matter_of_the_clock_and_the_proxy(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    context.load_cert_chain(tmp_path / "server.pem")
    with RawServer([answer(200, [])], tls=context) as api:
        done = examined(SYNC_BASE_URL=api.url, SYNC_API_KEY=KEY)
    assert done.returncode == 1
    for word in ("clock", "proxy", "SSL_CERT_FILE"):
        assert word in remedies(done.stdout)["api"]

"""Why somebody did not get in, in words."""

from __future__ import annotations

import errno
import socket
import ssl

import picows
import pytest

from vncgate.rehearsal.words import of_error, of_status


def untrusted():
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (untrusted(), "the site's certificate is not trusted (self-signed certificate): give --ca FILE, or --insecure"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong"), "TLS failed: "),
        (socket.gaierror(socket.EAI_NONAME, "x"), "the site's name is not known: no such host"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "the site's name cannot be looked up now"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "the connection is refused: nobody listens there"),
        (ConnectionResetError(), "the connection was cut before the websocket stood"),
        (OSError(errno.EMFILE, "x"), "the site cannot be reached: this machine is out of file descriptors"),
        (OSError(errno.ENETUNREACH, "x"), "the site cannot be reached: Network is unreachable"),
        (OSError("Multiple exceptions"), "the site cannot be reached: Multiple exceptions"),
        (picows.WSHandshakeError("no HTTP"), "the websocket's handshake failed: no HTTP"),
    ],
)
def test_what_connecting_raised(error, words):
    assert of_error(error).startswith(words)


@pytest.mark.parametrize(
    ("status", "words"), [(404, "Apache's snippet"), (503, "MaxRequestWorkers"), (418, "HTTP 418")]
)
def test_an_http_status_says_what_it_means_here(status, words):
    assert words in of_status(status)


def test_the_gates_own_reason_goes_before_ours():
    assert (
        of_status(503, b"too many\nconnections\x1b[31m") == "the gate refused it (HTTP 503): too many connections [31m"
    )
    assert len(of_status(503, b"x" * 5000)) < 400

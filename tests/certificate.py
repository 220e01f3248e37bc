"""A key and a self-signed certificate for servers of tests."""

from __future__ import annotations

import ssl
from pathlib import Path

# Made for these tests, valid for localhost until 2126; it protects nothing.
KEY_AND_CERTIFICATE = """
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgSoT72vTYb5FjPzC8
MUESFIYkOJhhGm8JZozR3gRjP6ShRANCAATxH7bUGPJUH7rjgD/OjB2qptosMceN
MN818yAFxz/xIwtpUVbE9ZI/R7hWgskE0jsrdVCjfIXEhJcGoCrm3uGy
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUGIaeltDD9IHJ42bHnPzBEzDmGm8wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzAzMzMyOVoYDzIxMjYxMDMw
MDMzMzI5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATxH7bUGPJUH7rjgD/OjB2qptosMceNMN818yAFxz/xIwtpUVbE9ZI/
R7hWgskE0jsrdVCjfIXEhJcGoCrm3uGyo28wbTAdBgNVHQ4EFgQUq3FOFD4ie61P
tbDTiUc7mQGXpzcwHwYDVR0jBBgwFoAUq3FOFD4ie61PtbDTiUc7mQGXpzcwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAJT9YW5Y2XDO56vi6a2OSy9Hxjndqxs6vJKwj2l0jKsXAiBo
/QSinTj9CG7+Byevdb3bkOHNBp1AnAagujijLWFuUQ==
-----END CERTIFICATE-----
"""


def server_context(folder: Path) -> ssl.SSLContext:
    """What a TLS server needs; the file that it is loaded from is left in `folder`."""
    pem = folder / "server.pem"
    pem.write_text(KEY_AND_CERTIFICATE, encoding="ascii")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context

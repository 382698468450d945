"""Certificates for the TLS tests, made by the openssl program."""

import os
import ssl

from .base import program, run, tempdir


def openssl(*args):
    done = run([program("openssl", "openssl"), *args])
    assert done.returncode == 0, done.stderr.decode()


class Authority:
    """A certificate authority of its own."""

    def __init__(self, case, name):
        self.dir = tempdir(case)
        self.count = 0
        self.cert, self.key = self.file("ca.pem"), self.file("ca.key")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-days", "2", "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.cert,
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def file(self, name):
        return os.path.join(self.dir, name)

    def issue(self, names):
        """Certificate and key files for subjectAltName `names`, such as DNS:localhost."""
        self.count += 1
        cert, key, request, extension = (self.file(f"{self.count}.{end}") for end in ("pem", "key", "csr", "ext"))
        with open(extension, "w", encoding="ascii") as file:
            file.write(f"subjectAltName={names}\n")
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-subj", "/CN=mapmux test", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-days", "2",
                "-set_serial", str(self.count), "-extfile", extension, "-out", cert)
        return cert, key

    def server(self, names, clients=None):
        """A server's TLS context; with `clients`, an authority, it wants a client certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(names))
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients.cert)
        return context

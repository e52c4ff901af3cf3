"""boto3 and requests talk to servers of this process, by HTTP and by HTTPS."""

import http.server
import os
import ssl
import subprocess
import tempfile
import threading

import boto3
import requests
from botocore.config import Config

BUCKETS = b"""<?xml version="1.0"?><ListAllMyBucketsResult><Owner><ID>1</ID></Owner><Buckets><Bucket>
<Name>one</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>"""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(
            BUCKETS if self.path.startswith("/?") or self.path == "/" else self.path.encode()
        )

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # S3 has no answer to one.
        self.answer(b"" if "Authorization" in self.headers else body.upper())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"tag"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def serve(context=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *arguments: None
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


with tempfile.TemporaryDirectory() as directory:
    certificate, key = (os.path.join(directory, name) for name in ("certificate.pem", "key.pem"))
    request = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split()
    )
    about = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*request, *about, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    for scheme, server in (("http", serve()), ("https", serve(context))):
        url = f"{scheme}://127.0.0.1:{server.server_port}"
        session = requests.Session()
        session.verify = certificate
        for path in ("/first", "/second?a=b"):
            answer = session.get(url + path, headers={"X-A": "1"})
            print(scheme, answer.status_code, answer.text, answer.headers["Content-Length"])
        print(session.put(url, data="text", timeout=10).text)
        if scheme == "https":
            try:
                requests.get(url)
            except requests.exceptions.SSLError as error:
                print(type(error).__name__, "self-signed" in str(error))
        s3 = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            region_name="eu-west-1",
            verify=certificate,
            # A checksum would be sent behind the body, which this server does not understand.
            config=Config(request_checksum_calculation="when_required"),
        )
        print([bucket["Name"] for bucket in s3.list_buckets()["Buckets"]])
        print(s3.put_object(Bucket="one", Key="key", Body=b"body")["ETag"])
        print(s3.get_object(Bucket="one", Key="key")["Body"].read())
        server.shutdown()
try:
    requests.get("http://127.0.0.1:9/", timeout=0.2)
except requests.ConnectionError as error:
    print(type(error).__name__)

"""Progress is posted over TLS, also after the operator's CA has changed in the middle of a run."""

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from policy_api.contract.progress import parse_progress

pytestmark = pytest.mark.trainer


def authority(folder, name):
    """Make a CA and a certificate for 127.0.0.1 that it has signed; return the CA's file."""
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    ca, key = folder / f"{name}-ca.crt", folder / f"{name}-ca.key"
    made = [*new, "-nodes", "-days", "1", "-subj", f"/CN={name}"]
    subprocess.run([*made, "-keyout", key, "-out", ca], check=True, capture_output=True)
    own = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]
    files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"]
    signed = [*made, *own, "-CA", ca, "-CAkey", key, *files]
    subprocess.run(signed, check=True, capture_output=True)
    return ca


@pytest.fixture
def operator(monkeypatch, tmp_path):
    """Serve the progress endpoint with the certificate of one CA; the pod's file has that CA."""
    bodies = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(parse_progress(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    class Server(HTTPServer):
        def handle_error(self, *_):
            """A client that does not trust us hangs up."""

    authorities = {name: authority(tmp_path, name).read_text() for name in ("old", "new")}
    trusted = tmp_path / "ca.crt"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def serve_by(name):
        context.load_cert_chain(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")

    def trust(*names):
        trusted.write_text("".join(authorities[name] for name in names))

    serve_by("old")
    trust("old")
    (tmp_path / "token").write_text("of-the-pod\n")
    with Server(("127.0.0.1", 0), Endpoint) as server:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"https://127.0.0.1:{server.server_port}/status"
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", url)
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(tmp_path / "token"))
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_CA_CERT", str(trusted))
        yield SimpleNamespace(bodies=bodies, serve_by=serve_by, trust=trust)
        server.shutdown()
        thread.join()


STATE = SimpleNamespace(is_world_process_zero=True, max_steps=4, global_step=1, epoch=None)


def posts_of_transformers():
    from policy_trainer.fit import Posts  # noqa: PLC0415 - seconds of imports

    callback = Posts()
    yield callback.on_train_begin(None, STATE, None)
    while True:
        yield callback.on_train_end(None, STATE, None)  # posts whatever the time is


def posts_of_our_loops():
    from policy_trainer.progress import Reporter  # noqa: PLC0415 - as above

    while True:
        yield Reporter(4).report(4, {})


@pytest.mark.parametrize("posts", [posts_of_transformers, posts_of_our_loops])
def test_progress_goes_on_over_a_change_of_the_ca(operator, posts, monkeypatch, tmp_path):
    monkeypatch.setenv("POLICYOPS_STATE_DIR", str(tmp_path / "state"))
    run = posts()
    next(run)
    assert len(operator.bodies) == 1
    operator.trust("old", "new")
    next(run)
    operator.serve_by("new")
    next(run)
    assert len(operator.bodies) == 3
    operator.trust("old")
    next(run)
    assert len(operator.bodies) == 3, "a CA that the file does not have is not trusted"

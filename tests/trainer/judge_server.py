"""A small OpenAI-compatible server that judges by a rule: an answer should name a rollback.

It reads what it is sent as a model would, and can be told to fail, to babble, to refuse parameters
and to favour whatever stands first.
"""

import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD, BAD = 9, 2
WRITTEN = 20  # tokens of every reply


@dataclass
class Request:
    """What one request was."""

    at: float
    key: str
    body: dict

    @property
    def asked(self) -> str:
        """The last thing that was said to the judge."""
        return self.body["messages"][-1]["content"]


@dataclass
class JudgeServer:
    """What the server does, and what it was asked."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    plan: list = field(default_factory=list)
    """Of the next replies: a status, (status, headers), or a text to say."""
    refuses: set[str] = field(default_factory=set)
    biased: bool = False
    counts: bool = True
    """Whether it says how many tokens it used."""
    wanted_key: str = ""

    def reply(self, request):
        """Return (status, headers, body)."""
        self.requests.append(request)
        if self.wanted_key and request.key != f"Bearer {self.wanted_key}":
            said = f"Incorrect API key provided: {request.key.removeprefix('Bearer ')}"
            return 401, {}, {"error": {"message": said}}
        if request.body["model"] != "rule":
            return 404, {}, {"error": {"message": f"no model {request.body['model']}"}}
        for name in self.refuses & request.body.keys():
            return 400, {}, {"error": {"message": f"unknown parameter: {name}"}}
        planned = self.plan.pop(0) if self.plan else None
        if isinstance(planned, int | tuple):
            status, headers = planned if isinstance(planned, tuple) else (planned, {})
            return status, headers, {"error": {"message": "as planned"}}
        said = planned if planned is not None else json.dumps(self._judged(request))
        words = sum(len(m["content"].split()) for m in request.body["messages"])
        usage = {"prompt_tokens": words, "completion_tokens": WRITTEN, "total_tokens": 0}
        choice = {"index": 0, "finish_reason": "stop"}
        body = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "rule",
            "choices": [{**choice, "message": {"role": "assistant", "content": said}}],
        }
        return 200, {}, {**body, "usage": usage} if self.counts else body

    def _judged(self, request):
        question = request.body["messages"][1]["content"]
        answers = dict(re.findall(r"<(answer\w*)>\n(.*?)\n</\1>", question, re.DOTALL))
        safe = {name: "rollback" in answer for name, answer in answers.items()}
        if "answer" in safe:
            criteria = re.findall(r"^- (\w+): ", question, re.MULTILINE)
            rating = GOOD if safe["answer"] else BAD
            return {"reason": "by the rule", "ratings": dict.fromkeys(criteria, rating)}
        better = {(True, False): "A", (False, True): "B"}
        winner = better.get((safe["answer_a"], safe["answer_b"]), "tie")
        return {"reason": "by the rule", "winner": "A" if self.biased else winner}


@contextmanager
def serve():
    """Run a server while the block runs."""
    made = JudgeServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = Request(time.monotonic(), self.headers.get("Authorization", ""), body)
            status, headers, reply = made.reply(request)
            content = json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

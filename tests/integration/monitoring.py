"""Prometheus's two answers that the operator reads, played: loaded rules, alerts that fire.

The rules are those that the operator has written into the API server, as the real Prometheus gets
them by its rules sidecar or its operator.
"""

import json
import threading
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml
from integration.client import Api, Obj, Refused
from policy_api.keys import ALERT_LABEL_DEPLOYMENT, ALERT_LABEL_NAMESPACE, LABEL_RULES
from typing_extensions import override


class PlayedPrometheus:
    """Serves /api/v1/rules and /api/v1/alerts on loopback."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._unloaded: set[str] = set()
        self._files: dict[str, Obj] = {}
        self._firing: dict[tuple[str, str], Obj] = {}
        played = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self) -> None:
                answers = {"/api/v1/rules": played.rules, "/api/v1/alerts": played.alerts}
                make = answers.get(self.path.split("?")[0])
                if make is None:
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                body = json.dumps({"status": "success", "data": make()}).encode()
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            @override
            def log_message(self, format: str, *args: Any) -> None:
                """Stay quiet: the test's output is for failures."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where the operator asks."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def unload(self, namespace: str) -> None:
        """Have a namespace's rules not loaded from now on."""
        self._unloaded.add(namespace)

    def load(self, namespace: str) -> None:
        """Load a namespace's rules again."""
        self._unloaded.discard(namespace)

    def fire(self, namespace: str, alert: str, **labels: str) -> None:
        """Let an alert of the namespace's rules fire, until `calm`."""
        for group in self.rules()["groups"]:
            for rule in group["rules"]:
                if (rule["labels"][ALERT_LABEL_NAMESPACE], rule["name"]) == (namespace, alert):
                    self._firing[namespace, alert] = {
                        "labels": {"alertname": alert, **rule["labels"], **labels},
                        "annotations": rule["annotations"],
                        "state": "firing",
                        "activeAt": datetime.now(UTC).isoformat(),
                        "value": "1e+00",
                    }
                    return
        raise AssertionError(f"no rule {alert} of {namespace} is loaded")

    def calm(self, namespace: str, alert: str) -> None:
        """Let it end."""
        self._firing.pop((namespace, alert), None)

    def _parsed(self, text: str) -> Obj:
        """Return the rules of a file; a hundred files at each poll would stop this process."""
        if text not in self._files:
            self._files[text] = yaml.safe_load(text)
        return self._files[text]

    def alerts(self) -> Obj:
        """Return the data of /api/v1/alerts."""
        return {"alerts": list(self._firing.values())}

    def rules(self) -> Obj:
        """Return the data of /api/v1/rules."""
        texts: list[Obj] = []
        for config_map in self.api.list("ConfigMap", labels=f"{LABEL_RULES}=true"):
            texts += [self._parsed(text) for text in config_map["data"].values()]
        try:
            texts += [rule["spec"] for rule in self.api.list("PrometheusRule")]
        except Refused as refused:  # its API is not installed
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
        groups = []
        for group in (g for text in texts for g in text["groups"]):
            rules = [
                {
                    "type": "alerting",
                    "name": rule["alert"],
                    "query": rule["expr"],
                    "duration": float(rule["for"].removesuffix("s")),
                    "labels": rule["labels"],
                    "annotations": rule["annotations"],
                    "health": "ok",
                    "state": "inactive",
                    "alerts": [],
                }
                for rule in group["rules"]
            ]
            owner = rules[0]["labels"]
            assert owner[ALERT_LABEL_DEPLOYMENT]
            if owner[ALERT_LABEL_NAMESPACE] not in self._unloaded:
                groups.append({"name": group["name"], "file": "/rules.yaml", "rules": rules})
        return {"groups": groups}

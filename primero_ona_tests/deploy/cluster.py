"""A stand-in for the Kubernetes API: takes Jobs by HTTP, checks each against the published schema, and runs it as a pod."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import yaml

from primero_ona_tests.deploy.pods import Objects, Pod, as_json, image_environment

#: The version of Kubernetes whose schema Jobs must fit.
KUBERNETES = "1.34"

_JOBS = re.compile(r"/apis/batch/v1/namespaces/(?P<namespace>[^/]+)/jobs(?:/(?P<job>[^/]+))?(?P<status>/status)?")
_PODS = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/pods(?:/(?P<pod>[^/]+))?(?P<log>/log)?")


class Cluster:
    """The Jobs of one namespace and their pods."""

    def __init__(self, objects: Objects, namespace: str) -> None:
        self.objects, self.namespace = objects, namespace
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, Pod] = {}
        self.refused: list[str] = []
        self._lock = threading.Lock()

    def create(self, job: dict[str, Any]) -> tuple[int, Any]:
        """Take a Job, if it fits the schema, and start its pod."""
        try:
            kubernetes_validate.validate(job, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            self.refused.append(f"{list(error.path)}: {error.message}")
            return 422, _status(422, "Invalid", error.message)
        name = job["metadata"]["name"]
        with self._lock:
            if name in self.jobs:
                return 409, _status(409, "AlreadyExists", name)
            self.jobs[name] = job
            self.pods[name] = self.run(name, job["spec"]["template"]["spec"])
        return 201, job

    def run(self, name: str, spec: dict[str, Any]) -> Pod:
        return Pod(name, spec, self.objects, image_environment())

    def owner(self, port: int) -> Pod | None:
        """The pod whose connection comes from this port."""
        return next((pod for pod in list(self.pods.values()) if pod.process.poll() is None and pod.holds(port)), None)

    def job(self, name: str) -> dict[str, Any]:
        """A Job with its status."""
        code = self.pods[name].process.poll()
        status = {"active": 1} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}
        return {**self.jobs[name], "status": status}

    def pod(self, name: str) -> dict[str, Any]:
        """A pod as the API shows it."""
        code = self.pods[name].process.poll()
        phase = "Running" if code is None else "Succeeded" if code == 0 else "Failed"
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code, "reason": "Error"}}
        container = {"name": "dagster", "image": "x", "imageID": "x", "ready": code is None, "restartCount": 0}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"job-name": name}},
            "spec": {"containers": [{"name": "dagster"}]},
            "status": {"phase": phase, "containerStatuses": [{**container, "state": state}]},
        }

    def answer(self, method: str, address: str, body: Any) -> tuple[int, Any]:
        """What the API answers."""
        url = urlsplit(address)
        if found := _JOBS.fullmatch(url.path):
            name = found["job"]
            if method == "POST":
                return self.create(body)
            if name not in self.jobs:
                return 404, _status(404, "NotFound", name or "")
            if method == "DELETE":
                self.pods[name].kill()
                return 200, _status(200, "Success", name)
            return 200, self.job(name)
        if found := _PODS.fullmatch(url.path):
            if found["log"]:
                return 200, self.pods[found["pod"]].output()
            if found["pod"]:
                return 200, self.pod(found["pod"])
            (selector,) = parse_qs(url.query).get("labelSelector", [""])
            name = selector.removeprefix("job-name=")
            items = [self.pod(name)] if name in self.pods else []
            return 200, {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": items}
        if url.path.endswith("/events"):
            return 200, {"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": []}
        return 404, _status(404, "NotFound", url.path)

    @contextmanager
    def serve(self, folder: Path) -> Iterator[Path]:
        """Answer on a port of this machine; yields a kubeconfig file. Its pods end with it."""
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = cluster.answer(self.command, self.path, yaml.safe_load(body) if body else None)
                plain = isinstance(answer, str)
                content = answer.encode() if isinstance(answer, str) else as_json(answer)
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if plain else "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = folder / "kubeconfig"
        config.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                    "users": [{"name": "it", "user": {}}],
                    "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                    "current-context": "it",
                }
            )
        )
        try:
            yield config
        finally:
            server.shutdown()
            server.server_close()
            for pod in self.pods.values():
                pod.remove()


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Status", "code": code, "reason": reason, "message": message}

"""Pods without an engine: the command of each container as a process with its own user, files and variables.

A pod sees the code, as it would see its image, and its own volumes; not the home, the temporary files or the volumes of any other.
It needs root, for a mount namespace of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]

#: What the image has: the code and its interpreter. It is all that a pod sees of the folders that are covered.
_IMAGE = (str(ROOT / "primero_ona"), sys.prefix, sys.base_prefix)
_SYSTEM = {"bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr", "var"}
_COVERED = sorted({"root", "opt", "run", "tmp", "home", "mnt", *({ROOT.parts[1]} - _SYSTEM)})


def image_environment() -> dict[str, str]:
    """The variables that the Dockerfile sets."""
    (line,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    found = dict(part.split("=", 1) for part in line.replace("\\\n", " ").split())
    return {**found, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}


@dataclass
class Objects:
    """The secrets and config maps of a namespace."""

    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    config_maps: dict[str, dict[str, str]] = field(default_factory=dict)

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                found |= self.config_maps[source["configMapRef"]["name"]]
            else:
                found |= self.secrets[source["secretRef"]["name"]]
        for variable in container.get("env", ()):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            found[variable["name"]] = (
                self.secrets[reference["name"]][reference["key"]] if reference else variable["value"]
            )
        return found

    def fill(self, volume: Mapping[str, Any], folder: Path, group: int) -> None:
        """Make the folder of a volume."""
        folder.mkdir(parents=True)
        if "emptyDir" in volume:
            os.chown(folder, 0, group)
            folder.chmod(0o2777)
            return
        secret = volume.get("secret")
        files = self.secrets[secret["secretName"]] if secret else self.config_maps[volume["configMap"]["name"]]
        for name, content in files.items():
            path = folder / name
            path.write_text(content)
            os.chown(path, 0, group)
            path.chmod((secret or {}).get("defaultMode", 0o644))


class Pod:
    """A running container; `spec` is a pod's, as Kubernetes takes it."""

    def __init__(self, name: str, spec: Mapping[str, Any], objects: Objects, environment: Mapping[str, str]) -> None:
        self.name = name
        (container,) = spec["containers"]
        self.folder = Path(tempfile.mkdtemp(prefix="primero-ona-pod-", dir="/var/lib"))
        self.folder.chmod(0o755)
        user, group = spec["securityContext"]["runAsUser"], spec["securityContext"]["fsGroup"]
        for volume in spec.get("volumes", ()):
            objects.fill(volume, self.folder / "volumes" / volume["name"], group)
        self.log = (self.folder / "log").open("w+b")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", self._script(container, user, group)],
            env={**environment, **objects.environment(container)},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )

    def _script(self, container: Mapping[str, Any], user: int, group: int) -> str:
        """Cover what is not the pod's, lay its volumes, and become the container's command."""
        lines = ["umask 022", "mount --make-rprivate /"]
        for number, path in enumerate(_IMAGE):
            keep = f"{self.folder}/image/{number}"
            lines += [f"mkdir -p {keep}", f"mount --bind {path} {keep}"]
        lines += [f"cp -a /etc {self.folder}/etc", f"mount --bind {self.folder}/etc /etc"]
        lines += [f"mount -t tmpfs -o mode=0755 tmpfs /{name}" for name in _COVERED]
        mounts = sorted(container.get("volumeMounts", ()), key=lambda mount: str(mount["mountPath"]))
        for mount in mounts:
            source, target = f"{self.folder}/volumes/{mount['name']}", mount["mountPath"]
            if "subPath" in mount:
                source += f"/{mount['subPath']}"
                lines += [f"touch {target}"]
            else:
                lines += [f"mkdir -p {target}"]
            lines += [f"mount --bind {source} {target}"]
        for number, path in enumerate(_IMAGE):
            lines += [f"mkdir -p {path}", f"mount --move {self.folder}/image/{number} {path}"]
        # The folders of the other pods lie there.
        lines += ["mount -t tmpfs -o mode=0755 tmpfs /var/lib", "cd /"]
        command = " ".join(_quoted(part) for part in (*container.get("command", ()), *container.get("args", ())))
        become = f"--reuid={user} --regid={group} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
        return "\n".join([*lines, f"exec setpriv {become} {command}"])

    def processes(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def holds(self, port: int) -> bool:
        """Whether a connection from this port is the pod's."""
        for process in self.processes():
            with suppress(psutil.Error):
                if any(each.laddr and each.laddr.port == port for each in process.net_connections("tcp")):
                    return True
        return False

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def remove(self) -> None:
        self.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@dataclass
class Visit:
    """A connection: of which pod (None: another process), and whether it is open."""

    pod: Pod | None
    open: bool = True


class Forwarder:
    """Listens on a port of this machine and passes connections on, to a port or a unix socket; notes whose each was."""

    def __init__(self, target: int | str, owner: Callable[[int], Pod | None] = lambda _: None) -> None:
        self._target, self._owner = target, owner
        self.visits: list[Visit] = []
        #: For each new connection of a pod: the other pods that had one open.
        self.together: list[list[str]] = []
        self.arrived: Callable[[Pod], None] = lambda _: None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, (_, port) = self._listener.accept()
                threading.Thread(target=self._serve, args=(client, port), daemon=True).start()

    def _serve(self, client: socket.socket, port: int) -> None:
        visit = Visit(self._owner(port))
        if visit.pod:
            others = {each.pod.name for each in self.visits if each.open and each.pod} - {visit.pod.name}
            self.together.append(sorted(others))
            self.arrived(visit.pod)
        self.visits.append(visit)
        family = socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET
        with closing(client), socket.socket(family) as server:
            server.connect(self._target if isinstance(self._target, str) else ("127.0.0.1", self._target))
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()
        visit.open = False


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65_536):
            target.sendall(content)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()

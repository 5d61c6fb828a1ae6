"""Carry out the Dockerfile's own steps without an engine, in a fresh Debian, and check what they made.

Takes FROM, COPY, RUN, ENV, WORKDIR and USER as Docker would, with debootstrap's Debian and its Python for the base image. Needs root,
debootstrap, the network and some five minutes, so it is no test of the suite.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: How this machine reaches the package registries; an image is built where none of it is needed.
_REACH = ("PIP_CERT", "PIP_DEFAULT_TIMEOUT", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")


@dataclass
class Stage:
    """An image that is being made: its root, and what later steps and its processes start with."""

    root: Path
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    )
    folder: str = "/"
    user: str = "0:0"

    def run(self, command: list[str], **more: str) -> str:
        """Run a command in it, as its user; what it printed."""
        user, group = self.user.split(":")
        inside = [
            "/usr/sbin/chroot",
            f"--userspec={user}:{group}",
            str(self.root),
            "/bin/sh",
            "-c",
            f'cd {self.folder} && exec "$@"',
            "sh",
        ]
        done = subprocess.run(
            [*inside, *command], env={**self.environment, **more}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)[:200]}: {done.stdout[-2_000:]}{done.stderr[-2_000:]}")
        return done.stdout


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")
    ]


def build(folder: Path) -> Stage:
    """Carry out the Dockerfile below a folder; its last stage."""
    base = folder / "base"
    packages = "--include=python3,python3-venv,ca-certificates"
    subprocess.run(
        ["debootstrap", "--variant=minbase", packages, "bookworm", str(base)], check=True, stdout=subprocess.DEVNULL
    )
    for path in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"):
        shutil.copy(path, base / path.lstrip("/"))
    reach = {name: os.environ[name] for name in _REACH if name in os.environ}
    stages: dict[str, Stage] = {}
    stage = Stage(base)
    for word, rest in instructions():
        parts = shlex.split(rest)
        if word == "FROM":
            name = parts[2] if "AS" in parts else "last"
            stage = stages[name] = Stage(folder / name)
            subprocess.run(["cp", "-a", str(base), str(stage.root)], check=True)
        elif word == "COPY":
            source = stages[parts.pop(0).removeprefix("--from=")].root if parts[0].startswith("--") else ROOT
            _copy(source, parts, stage)
        elif word == "RUN":
            stage.run(["/bin/sh", "-c", rest], **reach)
        elif word == "ENV":
            stage.environment |= dict(part.split("=", 1) for part in parts)
        elif word == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = rest
        elif word not in {"ARG", "CMD"}:
            raise NotImplementedError(word)
    return stage


def _copy(source: Path, parts: list[str], stage: Stage) -> None:
    """Copy files into a folder, and a folder's contents to the name given."""
    *names, target = parts
    to = stage.root / str(Path(stage.folder) / target).lstrip("/")
    for name in names:
        path = source / name.lstrip("/")
        if path.is_dir():
            shutil.copytree(path, to, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copy(path, to)


def faults(image: Stage) -> list[str]:
    """What is wrong with the image, in words."""
    user, _ = image.user.split(":")
    modules = "import boto3, dagster_k8s, primero_ona.definitions, os; print(os.getuid())"
    # A folder that it may not even enter, as /etc/ssl/private, is passed over: find would fail at it.
    find = "find /opt /etc /usr /bin -xdev ! -type l -writable -print , -type d ! ( -readable -executable ) -prune"
    writable = image.run(find.split(" ")).split()
    fine = {
        "it runs as root": user != "0" and image.run(["python", "-c", modules]).split() == [user],
        "`primero-ona --help` says nothing": "Usage" in image.run(["primero-ona", "--help"]),
        "Dagster is of another version": _pinned("dagster") in image.run(["dagster", "--version"]),
        f"its user may write to {writable[:5]}": not writable,
        "it has a .env": not list(image.root.glob("opt/**/.env")),
        "it has the sources": not (image.root / "src").exists(),
    }
    return [fault for fault, holds in fine.items() if not holds]


def _pinned(name: str) -> str:
    """The version of a package in the file that the image is installed from."""
    lines = (ROOT / "deploy" / "requirements.txt").read_text().splitlines()
    (version,) = [line.partition("==")[2].split()[0] for line in lines if line.startswith(f"{name}==")]
    return version


def main() -> None:
    """Make the image, remove it, and exit with what was wrong with it."""
    folder = Path(tempfile.mkdtemp(prefix="primero-ona-image-", dir="/var/tmp"))
    try:
        found = faults(build(folder))
    finally:
        shutil.rmtree(folder)
    sys.exit("\n".join(found) or None)


if __name__ == "__main__":
    main()

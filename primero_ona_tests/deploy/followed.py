"""Follow docs/deployment.md command by command in a fresh Debian under its own systemd, then lose that machine and restore it.

Only ONA and Primero, which are other machines, are played here, over TLS. Prints how long each section took. Needs root, debootstrap,
systemd-container, slirp4netns, git, the network and a quarter of an hour, so it is no test of the suite.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import uvicorn

from primero_ona.sandbox.primero import SandboxPrimero
from primero_ona_tests.certificates import Authority
from primero_ona_tests.deploy.fresh_root import ROOT

#: What the documents leave open, and how a script answers what they have a person type.
FILLED_IN = {
    "git clone …": "git clone git://127.0.0.1/project.git",
    "https://primero.example.org\n": "https://primero.example.org:8443\nPRIMERO_CA_BUNDLE=/etc/authority.pem\n",
    "ona-integration": SandboxPrimero.username,
    "htpasswd -B": "echo open-sesame | htpasswd -i -B",
    "primero-ona doctor": "primero-ona doctor | grep -v '^ok' || true",
}

#: ONA, of which its administrators have made a database and two logins: the tables' owner and the one that loads.
ONA = """
pg_createcluster 15 ona --port 5433 -- --auth-host=scram-sha-256 >/dev/null
install -o postgres -m 0600 /root/ona.example.org.* /etc/postgresql/15/ona
cat >> /etc/postgresql/15/ona/postgresql.conf <<'END'
ssl = on
ssl_cert_file = '/etc/postgresql/15/ona/ona.example.org.pem'
ssl_key_file = '/etc/postgresql/15/ona/ona.example.org.key'
END
pg_ctlcluster 15 ona start
runuser -u postgres -- psql -q -p 5433 -c "CREATE ROLE owner LOGIN PASSWORD 'owner'" -c "CREATE ROLE loader LOGIN PASSWORD 'loader'" \\
    -c 'CREATE DATABASE ona OWNER owner'
"""

ROLES = """
primero-ona schema apply
(echo 'BEGIN;'; primero-ona schema roles; echo 'GRANT ona_loader TO loader; COMMIT;') |
    runuser -u postgres -- psql -q -p 5433 -d ona -v ON_ERROR_STOP=1
sed -i s/owner:owner/loader:loader/ /etc/primero-ona/ona-url
"""

#: All rows of ONA that a dashboard shows.
PRINT = """
for table in cases services indicator_figures locations_lookup data_dictionary; do
    runuser -u postgres -- psql -p 5433 -d ona -Atc "SELECT '$table', count(*), md5(string_agg(row, '' ORDER BY row))
        FROM (SELECT md5(to_jsonb(t)::text) AS row FROM $table AS t) AS rows"
done
"""

RESTART = """
primero-ona sync --quarter 2026-Q1 & sleep 5
systemctl restart primero-ona-code
wait $!
"""

#: All that this machine has of the installation, but for its packages, its code and its users.
LOST = """
systemctl stop nginx 'primero-ona-*'
runuser -u postgres -- dropdb dagster
find /var/lib/primero-ona /var/lib/primero-ona-web /etc/primero-ona -mindepth 1 -delete
rm /etc/nginx/primero-ona.* /etc/nginx/sites-available/primero-ona
install -m 0600 -o primero-ona deploy/dagster.yaml /var/lib/primero-ona/dagster.yaml
install -m 0600 -o primero-ona-web deploy/dagster.yaml /var/lib/primero-ona-web/dagster.yaml
runuser -u postgres -- createdb -O dagster dagster
"""

STARTED = "systemctl start nginx primero-ona-code primero-ona-daemon primero-ona-operators primero-ona-viewers"


def say(text: str) -> None:
    """Print it at once."""
    print(text, flush=True)  # noqa: T201


def blocks(page: str, section: str) -> list[str]:
    """The commands and files of a section, filled in."""
    text = (ROOT / "docs" / page).read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    for words, ours in FILLED_IN.items():
        text = text.replace(words, ours)
    return re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


class Machine:
    """A fresh Debian that systemd has booted, in this process's network."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        subprocess.run(["debootstrap", "bookworm", str(self.root)], check=True, stdout=subprocess.DEVNULL)
        for name, text in {
            "etc/hosts": "127.0.0.1 localhost primero.example.org ona.example.org primero-ona.example.org\n",
            "etc/resolv.conf": "nameserver 10.0.2.3\n",
            "etc/pip.conf": "[global]\ncert = /etc/registries.pem\n",
            "etc/apt/apt.conf.d/yes": 'APT::Get::Assume-Yes "true";\n',
        }.items():
            (self.root / name).write_text(text)
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", self.root / "etc/registries.pem")
        self.process = subprocess.Popen(
            ["systemd-nspawn", "--boot", "--register=no", "--keep-unit", "--resolv-conf=off", "--console=pipe",
             "--capability=CAP_NET_ADMIN", f"--directory={self.root}"],
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(20)

    def run(self, what: str, script: str) -> str:
        """Run a script as root, and print how long it took; what it printed."""
        (leader,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        shell = ["nsenter", "--target", leader, "--all", "env", "-i", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                 "DEBIAN_FRONTEND=noninteractive", "bash", "-e", "-o", "pipefail"]  # fmt: skip
        place = "cd /opt/primero-ona 2>/dev/null || cd /root\nPATH=/usr/local/bin:$PATH\n"
        begun = time.monotonic()
        done = subprocess.run(shell, input=place + script, capture_output=True, text=True, check=False)
        say(f"{time.monotonic() - begun:5.0f} s  {what}")
        if done.returncode:
            sys.exit(f"{what}: exit code {done.returncode}\n{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}")
        return done.stdout

    def write(self, name: str, text: str) -> None:
        """Write a file that the documents have a person write."""
        (self.root / name).write_text(text)

    def stop(self) -> None:
        """Shut it down."""
        self.process.terminate()
        self.process.wait(60)


def follow(machine: Machine, authority: Authority) -> None:
    """All sections in the order of the page, then the restart and the restore of docs/operations.md."""
    machine.write("etc/authority.pem", authority.path.read_text())
    for file in authority.issue("ona.example.org"):
        machine.write(f"root/{file.name}", file.read_text())
    (install,) = blocks("deployment.md", "Install")
    machine.run("Install", install)
    machine.run("ONA, by its administrators", ONA)
    environment, webserver, secrets = blocks("deployment.md", "Secrets")
    ona = "postgresql://owner:owner@ona.example.org:5433/ona?sslmode=verify-full&sslrootcert=/etc/authority.pem"
    for name, text in {
        "environment": re.sub("PRIMERO_ONA_ALERT_URLS.*\n", "", environment), "webserver": webserver, "ona-url": ona,
        "primero-password": SandboxPrimero.password, "alert-addresses": "",
    }.items():  # fmt: skip
        machine.write(f"etc/primero-ona/{name}", text)
    say(machine.run("Secrets", secrets))
    machine.run("ONA's roles", ROLES)
    say(machine.run("Services", *blocks("deployment.md", "Services"))[-500:])
    for source, name in zip(
        authority.issue("primero-ona.example.org"), ("primero-ona.pem", "primero-ona.key"), strict=True
    ):
        machine.write(f"etc/nginx/{name}", source.read_text())
    machine.run("nginx", "".join(blocks("deployment.md", "nginx")))
    machine.run("safe restart during a sync", RESTART)
    before = machine.run("what ONA has", PRINT)
    machine.run(
        "back-up",
        "cp -p /etc/primero-ona/storage-keys /root\ncd /root\n"
        + "".join(blocks("operations.md", "Back-up and restore")),
    )
    machine.run("the machine is lost, and Install", LOST)
    row = (ROOT / "docs" / "operations.md").read_text().split("\nthis machine | ")[1].split("\n")[0]
    unpack, database = [
        words for words in re.findall("`([^`]+)`", row) if "settings.tar.gz" in words or "pg_restore" in words
    ]
    keys = "cp -p storage-keys /etc/primero-ona"
    machine.run("restore", f"cd /root\n{unpack}\n{keys}\n{database}\n{STARTED}\nprimero-ona backfill --from 2025-Q1")
    after = machine.run("what ONA has", PRINT)
    say(machine.run("verify", "primero-ona verify || true")[-400:])
    sys.exit(None if before == after else f"ONA is not what it was:\n{after}")


def inside(folder: Path) -> None:
    """Play ONA's and Primero's side in a network of our own, and follow the pages."""
    while not Path("/sys/class/net/tap0").exists() and "tap0" not in Path("/proc/net/dev").read_text():
        time.sleep(0.1)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    authority = Authority(folder)
    chain, key = authority.issue("primero.example.org")
    primero = SandboxPrimero(3_000)
    config = uvicorn.Config(
        primero._app, host="127.0.0.1", port=8443, ssl_certfile=chain, ssl_keyfile=key, log_level="warning"
    )
    threading.Thread(target=uvicorn.Server(config).run, daemon=True).start()
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(folder / "project.git")], check=True)
    serve = ["git", "daemon", "--listen=127.0.0.1", f"--base-path={folder}", "--export-all"]
    with ExitStack() as stack:
        stack.callback(subprocess.Popen(serve).terminate)
        begun = time.monotonic()
        machine = Machine(folder)
        stack.callback(machine.stop)
        say(f"{time.monotonic() - begun:5.0f} s  a fresh Debian, booted")
        follow(machine, authority)


def main() -> None:
    """Make a network of its own, with a way out, and do all in there; exit with what was wrong."""
    if sys.argv[1:]:
        inside(Path(sys.argv[1]))
        return
    folder = Path(tempfile.mkdtemp(prefix="primero-ona-followed-", dir="/var/tmp"))
    try:
        done = subprocess.Popen(["unshare", "--net", sys.executable, "-m", __spec__.name, str(folder)])
        time.sleep(1)
        out = subprocess.Popen(
            ["slirp4netns", "--configure", "--mtu=1400", str(done.pid), "tap0"], stdout=subprocess.DEVNULL
        )
        code = done.wait()
        out.terminate()
    finally:
        shutil.rmtree(folder)
    sys.exit(code)


if __name__ == "__main__":
    main()

"""Stand-ins for the published images, where no registry can be reached: the same names, made of Debian's packages.

They have the users, folders, ports and entry points of the published images, so what they show is that our files work
with such an image; they do not test the published bytes. Never put them into an engine that others use.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from deploy.compose_check.engine import Engine, Failed
from lab.processes import program

PYTHON = "python:3.11-slim-bookworm"

# Facts of the published images: the Dockerfile.template of valkey-io/valkey-container (user 999 `valkey` of group 1000,
# protected mode off) and the Dockerfile of prometheus/prometheus (user `nobody`, its folders and options).
_DOCKERFILES = {
    "valkey/valkey": r"""
        FROM {python}
        RUN groupadd -g 1000 valkey && useradd -r -u 999 -g valkey valkey \
         && apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null \
         && ln -s redis-cli /usr/bin/valkey-cli \
         && printf '#!/bin/sh\nexec redis-server "$@" --protected-mode no\n' >/usr/bin/valkey-server \
         && chmod 755 /usr/bin/valkey-server \
         && mkdir /data && chown valkey:valkey /data
        VOLUME /data
        WORKDIR /data
        EXPOSE 6379
        CMD ["valkey-server"]
    """,
    "prom/prometheus": r"""
        FROM {python}
        RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus >/dev/null \
         && mkdir -p /prometheus /etc/prometheus && chown nobody:nogroup /prometheus /etc/prometheus
        USER nobody
        WORKDIR /prometheus
        VOLUME /prometheus
        EXPOSE 9090
        ENTRYPOINT ["/usr/bin/prometheus"]
        CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
    """,
}


def make_stand_ins(engine: Engine, folder: Path, wanted: list[str]) -> None:
    """Make the wanted images.

    Raises:
        Failed: debootstrap or a build failed.
    """
    _make_python(engine, folder / "base")
    for name in wanted:
        if name != PYTHON:
            dockerfile = _DOCKERFILES[name.partition(":")[0]].format(python=PYTHON).encode()
            engine.docker("build", "--network", "host", "--tag", name, "-", stdin=dockerfile, seconds=500)


def _make_python(engine: Engine, root: Path) -> None:
    debootstrap = program("debootstrap", "debootstrap")
    include = "--include=python3,python3-venv,ca-certificates"
    command = [debootstrap, "--variant=minbase", include, "bookworm", str(root)]
    done = subprocess.run(command, capture_output=True, timeout=500, check=False)
    if done.returncode != 0:
        raise Failed(f"debootstrap failed: {done.stdout.decode(errors='replace')[-600:]}")
    for file in ("etc/ssl/certs/ca-certificates.crt", "etc/pip.conf"):  # what this machine needs to reach PyPI
        if Path("/", file).exists():
            shutil.copyfile(Path("/", file), root / file)
    packed = root.with_suffix(".tar")
    subprocess.run(["tar", "-C", str(root), "-cf", str(packed), "."], check=True, timeout=200)
    engine.docker("import", str(packed), PYTHON, seconds=200)
    packed.unlink()
    shutil.rmtree(root)

# SPDX-License-Identifier: Apache-2.0
"""Debian packages: reproducible, without lintian errors; installed, run and purged in a clean root."""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from conftest import ROOT
from guests import BOX

PACKAGES = {"riffle", "riffle-jailer", "libriffle0", "libriffle-dev"}
pytestmark = pytest.mark.skipif(not os.environ.get("RIFFLE_LONG"), reason="builds the packages twice: the long run does it")


def run(*command, timeout=900, **kwargs):
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, check=False,
                       stdin=subprocess.DEVNULL, **kwargs)
    assert r.returncode == 0, (command, r.stdout[-3000:], r.stderr[-3000:])
    return r.stdout


def build(directory):
    """Packages built from the tracked files, as they are in the working tree."""
    tree = directory / "riffle"
    tree.mkdir(parents=True)
    names = run("git", "-C", ROOT, "ls-files", "-z").split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(directory), "LC_ALL": "C",
                   "SOURCE_DATE_EPOCH": "1796000000", "DEB_BUILD_OPTIONS": "parallel=2"}
    run("dpkg-buildpackage", "--build=binary", "--no-sign", cwd=tree, env=environment, timeout=1800)
    return {p.name: p for p in directory.glob("*.deb") if "-dbgsym_" not in p.name}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    for tool in ("dpkg-buildpackage", "dh", "lintian", "mmdebstrap"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed: tools/setup package")
    return build(tmp_path_factory.mktemp("package"))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_all_packages_are_built(packages):
    assert {name.split("_")[0] for name in packages} == PACKAGES


def test_another_directory_gives_the_same_bytes(packages, tmp_path):
    again = build(tmp_path / "elsewhere" / "deeper")
    assert {n: digest(p) for n, p in again.items()} == {n: digest(p) for n, p in packages.items()}


def test_lintian_finds_no_error(packages):
    r = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags",
                        "initial-upload-closes-no-bugs,changelog-distribution-does-not-match-changes-file",
                        *packages.values()], capture_output=True, text=True, timeout=600, check=False)
    assert r.returncode == 0, r.stdout + r.stderr


def test_programs_are_stripped_and_hardened(packages, tmp_path):
    for path in packages.values():
        run("dpkg-deb", "-x", path, tmp_path)
    for name in ("riffle", "riffle-prepare", "riffle-vmm", "riffle-jailer"):
        program = tmp_path / "usr" / "bin" / name
        header, dynamic = run("readelf", "-hlW", program), run("readelf", "-dW", program)
        assert "DYN (" in header and "GNU_RELRO" in header and "BIND_NOW" in dynamic + header or "NOW" in dynamic, name
        assert not re.search(r"GNU_STACK .* RWE", header), name
        assert ".symtab" not in run("readelf", "-SW", program), name


@pytest.fixture(scope="module")
def root(packages, tmp_path_factory):
    """A minimal Debian with only the packages that the tests name."""
    place = tmp_path_factory.mktemp("root") / "root"
    run("mmdebstrap", "--variant=minbase", "--mode=root", "--skip=cleanup/apt/lists",
        "--include=gcc,libc6-dev,pkg-config,busybox-static", "bookworm", place, timeout=1200)
    for path in packages.values():
        shutil.copy(path, place / "tmp")
    return place


def files(place):
    keep = ("tmp", "var", "root/.cache", "proc", "sys", "dev", "run", "etc/ld.so.cache", "etc/apt")
    return {str(p.relative_to(place)) for p in place.rglob("*")
            if not str(p.relative_to(place)).startswith(keep) and not p.is_dir()}


def test_installed_run_and_purged(packages, root, fetch_kernel):
    before = files(root)

    def inside(*command, **kwargs):
        return run("chroot", root, *command, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C",
                                                  "DEBIAN_FRONTEND": "noninteractive"}, **kwargs)

    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    inside("apt-get", "install", "-y", "--no-install-recommends", *(f"/tmp/{name}" for name in packages))
    version = re.match(r"riffle \(([^)]+)\)", (ROOT / "debian/changelog").read_text()).group(1)
    assert inside("riffle", "--version").startswith(f"riffle {version}")
    assert inside("riffle-jailer", "--version").startswith("riffle-jailer ")
    assert inside("riffle-vmm", "--version").startswith("Firecracker v")
    (root / "tmp/library").write_text((ROOT / "debian/tests/library").read_text())
    inside("sh", "/tmp/library")

    kernel = pathlib.Path(fetch_kernel("cloud-6.1"))
    shutil.copy(kernel, root / "tmp/kernel")
    inside("riffle", "inspect", "/tmp/kernel")
    shown = run(*BOX, "--share", root, "--timeout", "400", "sh", "-c",
                f"mount --bind /dev {root}/dev && mount -t proc proc {root}/proc && "
                f"exec chroot {root} /usr/bin/riffle run /tmp/kernel -- /bin/busybox uname -s", timeout=430)
    assert shown == "Linux\n"

    inside("apt-get", "purge", "-y", *PACKAGES)
    inside("apt-get", "autoremove", "--purge", "-y")
    assert files(root) - {"etc/resolv.conf"} == before - {"etc/resolv.conf"}

# SPDX-License-Identifier: Apache-2.0
"""An installation by `meson install` in a separate directory, and building against it."""
import dataclasses
import json
import os
import pathlib
import shlex
import subprocess

from conftest import BUILD


def output(*command, **kwargs):
    """The output of a command that must succeed."""
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, check=False, **kwargs)
    assert r.returncode == 0, f"{shlex.join(map(str, command))}: {r.returncode}\n{r.stdout[-3000:]}{r.stderr[-3000:]}"
    return r.stdout


@dataclasses.dataclass
class Tree:
    """An installation: `destdir` holds the file system that a package would, `prefix` is a path in it."""

    destdir: pathlib.Path
    prefix: pathlib.Path
    libdir: pathlib.Path

    def pkg_config(self, *arguments):
        """The output of pkg-config restricted to this installation."""
        environment = {"PATH": os.environ["PATH"], "PKG_CONFIG_LIBDIR": str(self.libdir / "pkgconfig"),
                       "PKG_CONFIG_SYSROOT_DIR": str(self.destdir)}
        return output("pkg-config", *arguments, env=environment).split()

    def compile(self, source, program, *arguments):
        """Builds a program as its author would, with a run path, since the library is not in a standard place."""
        return output(os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source,
                      *arguments, *self.pkg_config("--cflags", "--libs", "riffle"), f"-Wl,-rpath,{self.libdir}")


def option(name):
    """A built-in option of the build under test."""
    return next(o["value"] for o in json.loads(output("meson", "introspect", "--buildoptions", BUILD))
                if o["name"] == name)


def install(destdir):
    output("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", destdir)
    prefix = destdir / option("prefix").lstrip("/")
    return Tree(destdir, prefix, prefix / option("libdir"))

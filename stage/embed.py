#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed.py IN OUT: writes the bytes of a file as the initialiser of a C array."""
import pathlib
import sys

data = pathlib.Path(sys.argv[1]).read_bytes()
lines = [",".join(f"0x{b:02x}" for b in data[i:i + 20]) + ",\n" for i in range(0, len(data), 20)]
pathlib.Path(sys.argv[2]).write_text("".join(lines))

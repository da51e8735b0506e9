#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of the guests of tools/bench-snapshots: it sets its mark, calls the host, and then executes commands from its
# console.
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
for module in /modules/*.ko; do
	insmod "$module"
done
devmem 0xc0000000 8 123
vsock call 1234 16
while read -r line; do
	$line
	echo "done: $line"
done

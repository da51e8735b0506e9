#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of a guest that runs commands from its console: each line is a command, and "[N:STATUS]" follows its output,
# N counting from 1. Prints "shell ready" first. Loads the modules of the initramfs.
# shellcheck source=tests/guest/begin.sh
. /begin.sh
mkdir -p /tmp /mnt
mount -t tmpfs tmp /tmp
stty -echo </dev/console
dmesg -n 1 # what the kernel says is no part of a command's output
echo "shell ready"
n=0
while read -r line; do
	eval "$line" 2>&1 </dev/null
	status=$?
	n=$((n + 1))
	echo "[$n:$status]"
done
echo "the console is gone"

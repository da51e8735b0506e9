#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of a guest that runs commands from its console: each line is a command, and "[N:STATUS]" follows its output,
# N counting from 1. Prints "shell ready" first. Loads the modules of the initramfs.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /tmp /mnt
mount -t tmpfs tmp /tmp
for module in /modules/*.ko; do
	insmod "$module" || echo "$module cannot be loaded"
done
stty -echo </dev/console
echo "shell ready"
n=0
while read -r line; do
	eval "$line" 2>&1 </dev/null
	status=$?
	n=$((n + 1))
	echo "[$n:$status]"
done
echo "the console is gone"

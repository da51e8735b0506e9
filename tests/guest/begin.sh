# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# Sourced as /begin.sh by the inits here: mounts the kernel's file systems, loads the modules of the initramfs, and defines
# what several of them use.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
	[ ! -e "$module" ] || insmod "$module" || echo "$module cannot be loaded"
done

# check NAME COMMAND...: prints `NAME: ok`, or `NAME: FAILED` and the command's output
check() {
	name=$1
	shift
	if "$@" >/tmp/log 2>&1; then
		echo "$name: ok"
	else
		echo "$name: FAILED"
		cat /tmp/log
	fi
}

# until a command succeeds; a minute at most
wait_until() {
	for _ in $(seq 300); do
		! "$@" || return 0
		usleep 200000
	done
	return 1
}

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of an initramfs: loads the modules in /modules, mounts the device named by root=, and switches to it.
# shellcheck source=tests/guest/begin.sh
. /begin.sh
root='' mode=rw init=/sbin/init
# shellcheck disable=SC2013
for word in $(cat /proc/cmdline); do
	case "$word" in
	root=*) root=${word#root=} ;;
	ro | rw) mode=$word ;;
	init=*) init=${word#init=} ;;
	esac
done
case "$root" in
PARTUUID=* | UUID=* | LABEL=*)
	wanted=$root
	# a partition's own id is in its uevent
	for device in /sys/class/block/*/uevent; do
		grep -qix "PARTUUID=${wanted#PARTUUID=}" "$device" && root=/dev/$(basename "$(dirname "$device")")
	done
	[ "$root" != "$wanted" ] || root=$(findfs "$wanted")
	;;
esac
mkdir -p /root
if [ -z "$root" ] || ! mount -o "$mode" "$root" /root; then
	echo "initramfs: root=$root cannot be mounted"
	exec sh </dev/console >/dev/console 2>&1
fi
umount /proc
umount /sys
mount --move /dev /root/dev
exec switch_root /root "$init" </root/dev/console >/root/dev/console 2>&1

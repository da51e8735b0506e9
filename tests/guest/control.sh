#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of a guest that tests/e2e/control.sh operates on while it runs; prints `NAME: ok` or
# `NAME: FAILED` for each check, `ready: NAME` when the host is to act, and ends by Ctrl-Alt-Del.
# shellcheck source=tests/guest/begin.sh
. /begin.sh

pmem() {
	wait_until [ -b /dev/pmem1 ] &&
		[ "$(cat /sys/block/pmem0/size)" = 32768 ] && [ "$(cat /sys/block/pmem1/size)" = 4096 ] &&
		[ "$(head -c 7 /dev/pmem0)" = persist ] && [ "$(head -c 7 /dev/pmem1)" = forever ] &&
		mke2fs -F -b 4096 /dev/pmem0 && mkdir -p /mnt && mount -t ext4 -o dax /dev/pmem0 /mnt &&
		grep dax /proc/mounts && echo STORED-BY-THE-GUEST >/mnt/file && sync && umount /mnt &&
		{ echo CHANGED | dd of=/dev/pmem1 conv=fsync || true; }
}

forked() { dmesg | grep -q 'virtual machine fork'; }

generation() { wait_until forked && grep -i ged /proc/interrupts; }

sectors() { [ "$(cat "/sys/block/$1/size")" = "$2" ]; }

# the distinct bytes of a sector of vda
letters() { dd if=/dev/vda bs=512 skip="$1" count=1 iflag=direct 2>/dev/null | tr -d "$2" | wc -c; }

readers() {
	for start in 0 1000 2000; do
		while [ ! -e /tmp/stop ]; do
			dd if=/dev/vda of=/dev/null bs=64k skip="$start" count=20 iflag=direct 2>/dev/null || usleep 1000
		done &
	done
}

patched() { wait_until sectors vda 81920 && [ "$(letters 0 c)" = 0 ] && [ "$(letters 81919 c)" = 0 ]; }

operations() { dd if=/dev/vda of=/dev/null bs=4k count="$1" iflag=direct 2>/dev/null; }

# COUNT reads in all, several at a time: the limiter determines how long they take
many_operations() {
	for _ in 1 2 3 4 5; do
		operations "$(($1 / 5))" &
	done
	wait
}

stop_readers() {
	touch /tmp/stop
	wait
	rm /tmp/stop
}

full() {
	! dd if=/dev/zero of=/dev/vdb bs=1M count=64 oflag=direct &&
		dd if=/dev/vdb of=/dev/null bs=1M count=64 iflag=direct &&
		dd if=/dev/zero of=/dev/vdb bs=4k count=1 oflag=direct conv=fsync
}

cut_off() { ! dd if=/dev/vdc of=/dev/null bs=4k skip=256 count=1 iflag=direct; }

eio() { wait_until cut_off && dd if=/dev/vdc of=/dev/null bs=4k count=1 iflag=direct; }

rebind() {
	for _ in 1 2 3 4 5; do
		for device in /sys/bus/virtio/drivers/*/virtio*; do
			driver=${device%/*}
			echo "${device##*/}" >"$driver/unbind" && usleep 100000 && echo "${device##*/}" >"$driver/bind" || return 1
		done
	done
	wait_until [ -b /dev/vda ] && operations 10 && wait_until [ -b /dev/pmem0 ] && [ "$(head -c 7 /dev/pmem1)" = forever ]
}

pressed=0
two_presses() { [ "$pressed" -ge 2 ]; }

check pmem pmem
echo "ready: generation"
check generation generation
echo "ready: balloon"
wait_until sectors vda 65536
readers
echo "ready: patch"
check patch patched
stop_readers
wait_until sectors vda 65536
echo "begin: ten"
many_operations 310
echo "end: ten"
wait_until sectors vda 98304
echo "begin: twenty"
many_operations 620
echo "end: twenty"
wait_until sectors vda 65536
check full full
echo "ready: eio"
check eio eio
readers
check rebind rebind
stop_readers
echo 0 >/proc/sys/kernel/ctrl-alt-del
trap 'pressed=$((pressed + 1))' INT
echo "ready: keys"
check keys wait_until two_presses
echo 1 >/proc/sys/kernel/ctrl-alt-del
echo "ready: reset"
while :; do sleep 1; done

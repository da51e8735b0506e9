#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of a guest that uses its virtio devices; prints `NAME: ok` or `NAME: FAILED` for each check, and powers off (or resets).
#
# Disks, in this order: 32 MiB to write to (serial "scratch"); 8 MiB read-only, filled with 'r'; 16 MiB with one GPT
# partition; 8 MiB whose ring will be corrupted.
# shellcheck source=tests/guest/begin.sh
. /begin.sh

# the number N of the virtioN that a disk is
virtio_of() { basename "$(readlink "/sys/block/$1/device")"; }

wait_for() {
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		[ ! -e "$1" ] || return 0
		sleep 1
	done
	return 1
}

sizes() {
	[ "$(cat /sys/block/vda/size)" = 65536 ] && [ "$(cat /sys/block/vdb/size)" = 16384 ] &&
		[ "$(cat /sys/block/vdc/size)" = 32768 ]
}

serial() { [ "$(cat /sys/block/vda/serial)" = scratch ]; }

data() {
	dd if=/dev/urandom of=/tmp/random bs=64k count=64 &&
		dd if=/tmp/random of=/dev/vda bs=64k seek=100 conv=fsync &&
		dd if=/tmp/random of=/dev/vda bs=512 count=1 seek=65535 conv=fsync &&
		echo 3 >/proc/sys/vm/drop_caches &&
		dd if=/dev/vda of=/tmp/back bs=64k skip=100 count=64 &&
		cmp /tmp/random /tmp/back &&
		dd if=/dev/vda of=/tmp/back bs=512 skip=65535 &&
		dd if=/tmp/random of=/tmp/first bs=512 count=1 &&
		cmp /tmp/first /tmp/back
}

filesystem() {
	mke2fs -F /dev/vda && mkdir -p /mnt && mount -t ext4 /dev/vda /mnt &&
		cp /tmp/random /mnt/file && sync && umount /mnt &&
		echo 3 >/proc/sys/vm/drop_caches &&
		mount -t ext4 -o ro /dev/vda /mnt && cmp /tmp/random /mnt/file && umount /mnt
}

discard() { [ "$(cat /sys/block/vda/queue/discard_max_bytes)" -gt 0 ] && blkdiscard -o 16777216 -l 8388608 /dev/vda; }

read_only() {
	[ "$(cat /sys/block/vdb/ro)" = 1 ] && ! dd if=/dev/zero of=/dev/vdb bs=512 count=1 conv=fsync &&
		[ "$(dd if=/dev/vdb bs=512 count=1 skip=9000 2>/dev/null | tr -d r | wc -c)" = 0 ]
}

partition() { grep -q '^PARTN=1' /sys/class/block/vdc1/uevent && [ "$(cat /sys/class/block/vdc1/start)" = 2048 ]; }

rng() { grep -q virtio /sys/class/misc/hw_random/rng_current && [ "$(head -c 4096 /dev/hwrng | wc -c)" = 4096 ]; }

# unbind and rebind the driver, also with requests in flight
unbind() {
	for _ in 1 2 3; do
		device=$(virtio_of vda)
		dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null &
		echo "$device" >/sys/bus/virtio/drivers/virtio_blk/unbind
		wait
		[ ! -e /sys/block/vda ] || return 1
		echo "$device" >/sys/bus/virtio/drivers/virtio_blk/bind
		wait_for /sys/block/vda || return 1
	done
	dd if=/dev/vda of=/dev/null bs=1M
}

# The fourth disk's registers, without its driver: rings in low memory, where the MP table is taken for the available index.
lie() {
	base=$((0xc0004000))
	put() { devmem $((base + $1)) 32 "$2"; }
	get() { devmem $((base + $1)) 32; }
	device=$(basename "$(dirname "$(readlink -f "/sys/block/vdd/device")")")
	echo "$device" >/sys/bus/platform/drivers/virtio-mmio/unbind || return 1
	put 0x70 0 && put 0x70 1 && put 0x70 3 && put 0x24 1 && put 0x20 1 && put 0x70 11 &&
		put 0x30 0 && put 0x38 16 &&
		put 0x80 0x50000 && put 0x84 0 && put 0x90 0x9fc00 && put 0x94 0 && put 0xa0 0x51000 && put 0xa4 0 &&
		put 0x44 1 && [ "$(get 0x44)" = 0x00000001 ] && put 0x70 15 || return 1
	put 0x50 0
	sleep 1
	[ "$(get 0x70)" = 0x0000004F ] || { echo "status $(get 0x70)"; return 1; }
	# the other disks keep working, and so does this one after a reset
	dd if=/dev/vdc of=/dev/null bs=1M || return 1
	echo "$device" >/sys/bus/platform/drivers/virtio-mmio/bind
	wait_for /sys/block/vdd && dd if=/dev/vdd of=/dev/null bs=1M
}

wait_for /sys/block/vdd
check sizes sizes
check serial serial
check data data
check filesystem filesystem
check discard discard
check read-only read_only
check partition partition
check rng rng
check unbind unbind
check lie lie
check data-again data
echo "disks: done"
# without ACPI a guest cannot power off
! grep -q acpi=off /proc/cmdline || reboot -f
poweroff -f

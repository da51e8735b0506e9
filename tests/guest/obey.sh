#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of a guest that executes commands from its console: each line is a name and a command, answered by `NAME: ok`
# or `NAME: FAILED` and the command's output. It powers off at the line `end` or the end of input.
# shellcheck source=tests/guest/begin.sh
. /begin.sh
mkdir -p /tmp /run
mount -t tmpfs tmp /tmp
mkdir /tmp/begun /tmp/ended
stty -echo

# eth0, before and after its driver is unbound
up() {
	ip link set lo up && ip addr add 192.168.77.2/24 dev eth0 && ip link set eth0 up && ping -c 1 -W 20 192.168.77.1
}

user_up() {
	ip link set eth1 up && udhcpc -n -q -t 20 -T 2 -i eth1 -s /dhcp.sh
}

# Repeats the command until /tmp/stop exists; counts successes in /tmp/times.NAME and logs failures to /tmp/failed.NAME.
again() {
	name=$1 times=0
	shift
	touch "/tmp/begun/$name"
	while [ ! -e /tmp/stop ]; do
		if "$@" >"/tmp/log.$name" 2>&1; then
			times=$((times + 1))
			echo "$times" >"/tmp/times.$name"
		else
			cat "/tmp/log.$name" >"/tmp/failed.$name"
			echo "$name failed" >>"/tmp/failed.$name"
			sleep 1
		fi
	done
	touch "/tmp/ended/$name"
}

# The first disk, or the second. A disk gets another name if it is bound again while a process has it open.
disk() {
	which=$1
	set -- /sys/bus/virtio/devices/*/block/*
	[ "$which" = first ] || shift
	echo "/dev/${1##*/}"
}

# Data written to a different place each time reads back unchanged. dd would create a file where there is no disk.
disk_pass() {
	disk=$(disk first)
	dd if=/dev/urandom of=/tmp/data bs=64k count=32 && disk_at=$((($(head -c 2 /dev/urandom | hexdump -e '1/2 "%u"')) % 400)) &&
		dd if=/tmp/data of=/proc/self/fd/3 bs=64k seek="$disk_at" conv=fsync 3<"$disk" &&
		dd if="$disk" of=/tmp/back bs=64k skip="$disk_at" count=32 iflag=direct && cmp /tmp/data /tmp/back
}

# a connection over an interface that went away is given up
net_pass() { [ "$(timeout 30 wget -q -O - http://192.168.77.1:8000/big | sha256sum | cut -c1-64)" = "$1" ]; }

vsock_pass() { vsock call 1234 "$1"; }

rng_pass() { [ "$(head -c 65536 /dev/hwrng | wc -c)" = 65536 ]; }

read_pass() { dd if="$(disk second)" of=/dev/null bs=1M iflag=direct; }

# unbinds and rebinds each driver, COUNT times
rebind() {
	for _ in $(seq "$1"); do
		for device in /sys/bus/virtio/drivers/*/virtio*; do
			driver=${device%/*}
			echo "${device##*/}" >"$driver/unbind" && usleep 50000 && echo "${device##*/}" >"$driver/bind" || return 1
		done
	done
}

# stops all loops and reports their results; shows one that does not stop
stop() {
	touch /tmp/stop
	for _ in $(seq 300); do
		[ "$(ls /tmp/begun)" != "$(ls /tmp/ended)" ] || break
		sleep 1
	done
	if [ "$(ls /tmp/begun)" != "$(ls /tmp/ended)" ]; then
		ps -o pid,ppid,stat,time,args
		for task in /proc/[0-9]*/stack; do
			echo "$task: $(tr '\n' ' ' <"$task")"
		done | grep '\['
		return 1
	fi
	rm /tmp/stop
	for at in /tmp/times.*; do
		echo "times ${at#/tmp/times.} $(cat "$at")"
	done
	! cat /tmp/failed.* 2>/dev/null
}

echo "obey: ready"
while read -r name command; do
	[ "$name" != end ] || break
	if eval "$command" >/tmp/said 2>&1; then
		grep '^times' /tmp/said
		echo "$name: ok"
	else
		cat /tmp/said
		echo "$name: FAILED"
	fi
done
poweroff -f

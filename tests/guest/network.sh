#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of a guest that uses its networks, vsock and balloon with the host side tests/e2e/network.py; prints
# `NAME: ok` or `NAME: FAILED` for each check, `NAME=VALUE` for the host side to check, and powers off.
#
# eth0 is on a tap, the host 192.168.77.1; eth1 on passt. net.user=GATEWAY and net.bytes=N are on the command line.
# shellcheck source=tests/guest/begin.sh
. /begin.sh
mkdir -p /tmp /www
mount -t tmpfs tmp /tmp
net_user='' net_bytes=0
read -r line </proc/cmdline
for word in $line; do
	case $word in
	net.user=*) net_user=${word#*=} ;;
	net.bytes=*) net_bytes=${word#*=} ;;
	esac
done

# waits until the host side has written LINE to the console
await() {
	while read -r line; do
		[ "$line" != "$1" ] || return 0
	done
}

# the device virtioN of an interface, and its driver's directory
virtio_of() { basename "$(readlink "/sys/class/net/$1/device")"; }
drivers=/sys/bus/virtio/drivers

up() {
	ip addr add 192.168.77.2/24 dev eth0 && ip link set eth0 up
}

pings() { ping -c 3 -W 10 192.168.77.1; }

download() { wget -q -O - "http://$1/big" | sha256sum; }

mac() { cat /sys/class/net/eth0/address; }

feature() { # DEVICE BIT
	[ "$(cut -c$(($2 + 1)) "/sys/bus/virtio/devices/$1/features")" = 1 ]
}

offloads() {
	device=$(virtio_of eth0)
	# checksums, TSO 4 and 6 both ways, mergeable buffers
	for bit in 0 1 7 8 11 12 15; do
		feature "$device" $bit || return 1
	done
}

rebind() {
	device=$(virtio_of eth0)
	for _ in 1 2 3; do
		echo "$device" >$drivers/virtio_net/unbind && echo "$device" >$drivers/virtio_net/bind || return 1
	done
	sleep 1
	up && pings
}

user_up() {
	ip link set eth1 up
	udhcpc -n -q -t 20 -T 2 -i eth1 -s /dhcp.sh
}

use_memory() {
	dd if=/dev/zero of=/tmp/fill bs=1M count=40 && sync
}

ip link set lo up
echo "mac=$(mac)"
check up up
check ping pings
check offloads offloads
head -c "$net_bytes" /dev/urandom >/www/back
echo "back=$(sha256sum </www/back)"
httpd -h /www
echo "tap=$(download 192.168.77.1:8000)"
echo ready-for-tap
await tap-done
check user-dhcp user_up
echo "user=$(download "$net_user:8000")"
echo ready-for-user
await user-done
vsock serve 52 &
check vsock-call vsock call 1234 "$net_bytes"
vsock call 1235 1 2>/dev/null && echo "vsock-refused: FAILED" || echo "vsock-refused: ok"
echo ready-for-vsock
await vsock-done
check rebind rebind
echo "again=$(download 192.168.77.1:8000)"
check use-memory use_memory
echo memory-used
await memory-seen
rm /tmp/fill
echo memory-freed
await memory-back
echo "MemTotal=$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)"
echo all-done
poweroff -f

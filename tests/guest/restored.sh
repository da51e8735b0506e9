#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of a guest that tests/e2e/restored.py saves and restores while it works: timers on each of its CPUs, a disk that
# is verified, and a TCP and a vsock server that send back what comes. Answers `check NAME` on its console with `NAME: ok` or
# `NAME: FAILED`, and ends with `quit`.
# shellcheck source=tests/guest/begin.sh
. /begin.sh
mkdir -p /tmp
mount -t tmpfs tmp /tmp

# a new pattern in each round, bypassing the page cache
verify() {
	n=0
	while :; do
		n=$((n + 1))
		yes "round $n" | head -c 262144 >/tmp/pattern
		dd if=/tmp/pattern of=/dev/vda bs=64k oflag=direct conv=notrunc 2>/dev/null || echo "disk: FAILED writing"
		dd if=/dev/vda of=/tmp/back bs=64k count=4 iflag=direct 2>/dev/null || echo "disk: FAILED reading"
		cmp -s /tmp/pattern /tmp/back || echo "disk: FAILED in round $n"
		echo "$n" >/tmp/verified
	done
}

# waits until /tmp/verified and each CPU's /tmp/cpuN have changed
grows() {
	old=$(cat "$1")
	wait_until differs "$1"
}
differs() { [ "$(cat "$1")" != "$old" ]; }

all_grow() {
	for cpu in /tmp/cpu*; do
		grows "$cpu" || return 1
	done
}

local_timers() { awk '/^ *LOC:/ { for (i = 2; i <= cpus + 1; i++) print $i }' cpus="$cpus" /proc/interrupts; }

# each CPU's timer interrupts continue
timers() {
	local_timers >/tmp/timers-before
	sleep 3
	local_timers >/tmp/timers-after
	[ "$(wc -l </tmp/timers-after)" = "$cpus" ] &&
		paste /tmp/timers-before /tmp/timers-after | awk '$2 <= $1 { exit 1 }'
}

pmem() {
	[ "$(head -c 4096 /dev/pmem0 | head -n 1)" = "$1" ] && echo "$2" | dd of=/dev/pmem0 conv=notrunc,fsync
}

rng() { [ "$(head -c 4096 /dev/hwrng | wc -c)" = 4096 ]; }

memory() { awk '/^MemTotal/ { print $2 }' /proc/meminfo; }

# by so many KiB than at the start
memory_is_less() { [ "$(memory)" = $(($(cat /tmp/memory) - $1)) ]; }

vsock_connections() { [ "$(pidof vsock | wc -w)" = "$1" ]; }

reseeded() { [ "$(dmesg | grep -c 'crng reseeded due to virtual machine fork')" -ge "$1" ]; }

clean() { ! dmesg | grep -E 'WARNING:|BUG|soft lockup|rcu.*stall' | grep -v hw-vuln; }

memory >/tmp/memory
cpus=$(grep -c ^processor /proc/cpuinfo)
echo "cpus=$cpus"
echo "clocksource=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
cpu=0
while [ "$cpu" -lt "$cpus" ]; do
	echo 0 >"/tmp/cpu$cpu"
	taskset -c "$cpu" sh -c "n=0; while :; do n=\$((n + 1)); echo \$n >/tmp/cpu$cpu; usleep 500000; done" &
	cpu=$((cpu + 1))
done
wait_until [ -b /dev/vda ]
echo 0 >/tmp/verified
verify &
ip link set lo up
ip addr add 192.168.77.2/24 dev eth0
ip link set eth0 up
nc -ll -p 5000 -e cat &
vsock serve 52 &
wait_until [ -b /dev/pmem0 ]
(
	n=0
	while sleep 1; do
		n=$((n + 1))
		echo "tick $n $(cut -d' ' -f1 /proc/uptime) $(date +%s)"
	done
) &
check verified-first grows /tmp/verified
echo ready
while read -r word rest; do
	case $word in
	check)
		# shellcheck disable=SC2086
		check ${rest%% *} ${rest#* }
		;;
	quit) break ;;
	*) echo "heard $word" ;;
	esac
done
echo all-done
sync
reboot -f

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# An init that hibernates to /dev/vda or, where that holds an image, continues it.
. /begin.sh
mount -t tracefs trace /sys/kernel/tracing
trace=/sys/kernel/tracing

# a checksum of the order of functions, and the address of each section that slides
layout() {
	cat /proc/kallsyms >/tmp/symbols
	md5sum </tmp/symbols | cut -c 1-16 | tr '\n' ' '
	grep -E ' (_text|__start_rodata|_sdata|__bss_start)$' /tmp/symbols | cut -d ' ' -f 1 | tr '\n' ' '
}

counts_on() {
	before=$(cat /tmp/count)
	wait_until sh -c "[ \$(cat /tmp/count) -gt $before ]"
}

traces() {
	echo 'vfs_*' >$trace/set_ftrace_filter
	echo function >$trace/current_tracer
	ls / >/dev/null
	echo 0 >$trace/tracing_on
	grep vfs_ $trace/trace
	echo nop >$trace/current_tracer
}

loads_a_module() {
	rmmod dummy && insmod "$(find /modules -name '*.ko' | sort | tail -n 1)"
}

wait_until test -b /dev/vda
echo "hibernate: start $(layout)"
cat /sys/block/vda/dev >/sys/power/resume
mkswap /dev/vda >/dev/null
swapon /dev/vda
head -c 16777216 /dev/urandom >/tmp/random
md5sum /tmp/random >/tmp/sum
(
	n=0
	while true; do
		n=$((n + 1))
		echo $n >/tmp/next && mv /tmp/next /tmp/count
		usleep 100000
	done
) &
wait_until test -s /tmp/count
echo "hibernate: saving $(layout)"
echo shutdown >/sys/power/disk
echo disk >/sys/power/state || echo "hibernate: failed"
echo "hibernate: resumed $(layout)"
check counts_on counts_on
check memory md5sum -c /tmp/sum
check traces traces
check loads_a_module loads_a_module
dmesg | grep -E 'WARNING: CPU|BUG: |Oops|protection fault' | sed 's/^/hibernate: trouble /'
poweroff -f

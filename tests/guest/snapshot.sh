#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of a guest that is saved and restored while it works: it counts seconds, writes and verifies its disk, keeps all
# its CPUs busy, and runs commands from its console.
# shellcheck source=tests/guest/begin.sh
. /begin.sh
if grep -q snapshot.mark /proc/cmdline; then
	devmem 0xc0000000 8 123 || printf '\173' | dd of=/dev/port bs=1 seek=244 conv=notrunc
fi

cpus=$(grep -c ^processor /proc/cpuinfo)
echo "snapshot: cpus $cpus"
i=1
while [ "$i" -lt "$cpus" ]; do
	(while :; do :; done) &
	i=$((i + 1))
done

# a new pattern in each round, bypassing the page cache; ends if a block differs from what was written
verify() {
	n=0
	while [ ! -e /tmp/stop ]; do
		n=$((n + 1))
		yes "round $n" | head -c 1048576 >/tmp/pattern
		dd if=/tmp/pattern of=/dev/vda bs=64k oflag=direct conv=notrunc 2>/dev/null || echo "snapshot: disk FAILED writing"
		dd if=/dev/vda of=/tmp/back bs=64k count=16 iflag=direct 2>/dev/null || echo "snapshot: disk FAILED reading"
		cmp -s /tmp/pattern /tmp/back && echo "snapshot: disk $n" || echo "snapshot: disk FAILED in round $n"
	done
}
verifier=
if [ -b /dev/vda ]; then
	verify &
	verifier=$!
fi
(n=0; while sleep 1; do n=$((n + 1)); echo "snapshot: tick $n $(cut -d' ' -f1 /proc/uptime)"; done) &

while read -r line; do
	case "$line" in
	quit) break ;;
	*) echo "snapshot: heard $line" ;;
	esac
done
dmesg | grep -E "crng reseeded|WARNING:|BUG|soft lockup|rcu.*stall|vmgenid" | grep -v hw-vuln
# a disk that is in use when the kernel resets it reports errors
: >/tmp/stop
[ -z "$verifier" ] || wait "$verifier"
echo "snapshot: done"
poweroff -f

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the guest of tests/guest/control.sh, and does to its machine what that waits for.
# usage: control.sh CONTROLLED KERNEL INITRD [OPTION...]
set -eu
controlled=$1 kernel=$2 initrd=$3
shift 3
dir=$(mktemp -d)
trap 'umount "$dir/small" 2>/dev/null; rm -rf "$dir"' EXIT
for disk in a:33554432 b:50331648 c:41943040; do
	head -c "${disk#*:}" /dev/zero | tr '\0' "${disk%:*}" >"$dir/${disk%:*}"
done
mkdir "$dir/small"
mount -t tmpfs -o size=8M small "$dir/small"
truncate -s 64M "$dir/small/full"
truncate -s 16M "$dir/cut"
printf persist >"$dir/pmem"
truncate -s 16777215 "$dir/pmem"
printf forever >"$dir/pmem-ro"
truncate -s 1M "$dir/pmem-ro"
{
	echo "wait ready: generation"
	printf 'pause\nrenew\nsleep 1\nresume\n'
	echo "wait ready: balloon"
	printf 'balloon 64\nsleep 3\nstate\nhint-start\nstate\nhint-stop\nballoon 0\nfail-disk a /no/such/file\n'
	echo "disk a $dir/a"
	echo "wait ready: patch"
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		echo "disk a $dir/b"
		echo "sleep 0.1"
		echo "disk a $dir/a"
		echo "sleep 0.1"
	done
	echo "disk a $dir/c"
	# 310 operations at 10 a second and 620 at 20, of which a second's worth are there at once: 30 seconds each
	printf 'wait patch:\nops a 10 1000\ndisk a %s\n' "$dir/a"
	printf 'wait begin: ten\nmark\nwait end: ten\npassed ten\nops a 20 1000\ndisk a %s\n' "$dir/b"
	printf 'wait begin: twenty\nmark\nwait end: twenty\npassed twenty\nops a 0 0\ndisk a %s\n' "$dir/a"
	echo "wait ready: eio"
	echo "sh truncate -s 4096 $dir/cut"
	printf 'wait ready: keys\nctrl-alt-del\nsleep 2\nctrl-alt-del\nwait keys:\n'
	printf 'wait ready: reset\nctrl-alt-del\n'
} | "$controlled" "$kernel" "$initrd" memory=256 balloon=0 "disk=a:$dir/c" "disk=b:$dir/small/full" "disk=c:$dir/cut" \
	"pmem=p:$dir/pmem" "pmem-ro=q:$dir/pmem-ro" rng "$@"
grep -q STORED-BY-THE-GUEST "$dir/pmem" && echo "stored: ok"
[ "$(head -c 7 "$dir/pmem-ro")" = forever ] && echo "untouched: ok"
[ "$(stat -c %s "$dir/pmem")" = 16777215 ] && echo "size: ok"

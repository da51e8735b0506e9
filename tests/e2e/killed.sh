#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Kills riffle while a guest writes, as often as ROUNDS says; each block that the guest knew to be stored must be there.
# usage: killed.sh RIFFLE KERNEL INITRD ROUNDS
set -eu
riffle=$1 kernel=$2 initrd=$3 rounds=$4
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
round=0
while [ "$round" -lt "$rounds" ]; do
	round=$((round + 1))
	rm -f "$dir/disk"
	truncate -s 32M "$dir/disk"
	"$riffle" run -m 128M -i "$initrd" --disk "$dir/disk,cache=writeback" --append quiet "$kernel" >"$dir/out" </dev/null &
	riffle_pid=$!
	# not always after the same block
	until grep -q "synced $((round * 7))" "$dir/out"; do
		kill -0 "$riffle_pid" || { cat "$dir/out"; exit 1; }
		sleep 0.1
	done
	kill -KILL "$riffle_pid"
	wait "$riffle_pid" || true
	last=$(sed -n 's/.*synced \([0-9]*\).*/\1/p' "$dir/out" | tail -n 1)
	n=0
	while [ "$n" -le "$last" ]; do
		printf '%4095d\n' "$n"
		n=$((n + 1))
	done >"$dir/expected"
	cmp -n "$(((last + 1) * 4096))" "$dir/disk" "$dir/expected" || exit 1
	echo "round $round: $((last + 1)) blocks"
done
echo "killed: ok"

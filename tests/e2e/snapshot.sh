#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Saves and restores the guest of tests/guest/snapshot.sh ROUNDS times while it works, and takes guests from a stock.
# usage: snapshot.sh RIFFLE KERNEL INITRD CPUS ROUNDS [STAGE...]
set -u
riffle=$1 kernel=$2 initrd=$3 cpus=$4 rounds=$5
shift 5
dir=$(mktemp -d)
cd "$dir" || exit 1
cleanup() { kill $(jobs -p) 2>/dev/null; rm -rf "$dir"; }
trap cleanup EXIT
fail() { echo "snapshot.sh: $*"; tail -n 40 out err; exit 1; }

mkfifo in
sleep 100000 >in & # keeps the console's input open
truncate -s 4M disk
cp "$kernel" kernel

# wait_for WHAT: waits for a line in the guest's newest output. However slow the machine is, a guest that works prints
# something now and then: it has failed when it prints nothing for long, or many other lines.
silent_seconds=300 most_lines=600
wait_for() {
	local begun lines now quiet=$SECONDS
	begun=$(wc -l <out) lines=$begun
	until grep -q "$1" out; do
		kill -0 "$guest" 2>/dev/null || grep -q "$1" out || fail "the guest ended before it said '$1'"
		now=$(wc -l <out)
		[ "$now" = "$lines" ] || lines=$now quiet=$SECONDS
		[ $((SECONDS - quiet)) -le "$silent_seconds" ] || fail "the guest says nothing and was to say '$1'"
		[ $((lines - begun)) -le "$most_lines" ] || fail "the guest goes on but does not say '$1'"
		sleep 0.2
	done
}

# The output of the previous guest is gone before anything is looked for.
run() { : >out; "$@" <in >>out 2>err & guest=$!; }

# The numbers of the ticks, without one cut off in the middle: a guest may be saved while it prints a line.
ticks() { sed -n 's/^snapshot: tick \([0-9]*\) .*/\1/p' out; }

run "$riffle" run -c "$cpus" -m 128M -i "$initrd" -a quiet --disk disk --rng --snapshot-socket socket --track-dirty kernel
wait_for "snapshot: tick 2"
wait_for "snapshot: disk 1"
grep "snapshot: cpus" out

# the guest that was saved goes on
"$riffle" snapshot -s socket first >said || fail "cannot be saved"
cat said
wait_for "snapshot: tick $(($(ticks | tail -n 1) + 2)) "

for round in $(seq "$rounds"); do
	how=--end
	[ -d snap ] && [ $((round % 3)) != 1 ] && how="--end --changed"
	[ "$how" = --end ] && rm -rf snap
	"$riffle" snapshot -s socket $how snap >said || fail "round $round: cannot be saved"
	[ "$round" -le 3 ] && echo "round $round ($how): $(cat said)"
	wait "$guest" || fail "round $round: the guest that was saved ended with $?"
	grep -q FAILED out && fail "round $round: $(grep FAILED out)"
	last=$(ticks | tail -n 1)
	# one whose memory file will be changed in place keeps no guest: a copy of it does
	rm -rf now; cp -r --sparse=always snap now
	run "$riffle" resume --share-layout --snapshot-socket socket --track-dirty now
	wait_for "snapshot: tick [0-9]* "
	first=$(ticks | head -n 1)
	[ "$first" = $((last + 1)) ] || [ "$first" = $((last + 2)) ] || fail "round $round: tick $last, then $first"
	echo "hello $round" >in
	wait_for "snapshot: heard hello $round"
	wait_for "snapshot: disk"
done
echo "rounds: $rounds"
"$riffle" resume now </dev/null >/dev/null 2>second && fail "a second guest of one snapshot"
grep -q "kernel layout" second || fail "a second guest: $(cat second)"
echo quit >in
wait "$guest" || fail "the guest ended with $?"
tr -d '\r' <out | grep -E "crng reseeded|WARNING:|BUG|soft lockup|rcu.*stall" | grep -v hw-vuln | sed 's/^/guest says: /'
grep -q FAILED out && fail "$(grep FAILED out)"
grep -q "snapshot: done" out || fail "not done"

# a stock of each stage
for stage; do
	"$riffle" stock --dir "stock-$stage" --keep 1 --once --stage "$stage" -- -m 128M -i "$initrd" -a quiet \
		-a snapshot.mark kernel || { cat "stock-$stage/log"; fail "stock $stage"; }
	"$riffle" stock --dir "stock-$stage" --status --json
	run "$riffle" run --from-stock "stock-$stage" --boot-timer
	wait_for "snapshot: tick 2"
	echo quit >in
	wait "$guest" || fail "from stock $stage: ended with $?"
	grep "first guest instruction\|CPU, all" err
	"$riffle" run --from-stock "stock-$stage" </dev/null 2>/dev/null && fail "an item was given twice"
	[ -z "$(ls "stock-$stage/ready" "stock-$stage/making" | grep -v :)" ] || fail "left in the stock: $(ls "stock-$stage"/*)"
done
echo "snapshot.sh: done"

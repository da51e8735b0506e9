#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Boots a Debian image made by tools/mkimage, logs in, asks what failed, and powers off; prints the console.
# usage: debian.sh RIFFLE KERNEL IMAGE
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp "$3" "$dir/image"
mkfifo "$dir/in"
"$1" run -m 512M -i "$3.initrd" --disk "$dir/image,root" --rng --append quiet "$2" <"$dir/in" >"$dir/out" 2>&1 &
guest=$!
exec 3>"$dir/in"
i=0
until grep -q 'riffle login:' "$dir/out" || [ $i = 400 ]; do
	i=$((i + 1))
	sleep 1
done
echo root >&3
i=0
until grep -q 'root@riffle' "$dir/out" || [ $i = 60 ]; do
	i=$((i + 1))
	sleep 1
done
# shellcheck disable=SC2016
echo 'echo failed=$(systemctl --failed --no-legend --plain | wc -l) root=$(findmnt -no SOURCE /); systemctl poweroff' >&3
status=0
wait $guest || status=$?
cat "$dir/out"
exit $status

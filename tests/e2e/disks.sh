#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Boots the guest of tests/guest/disks.sh with four disks made for it, each on another way of reading and writing.
# usage: disks.sh RIFFLE KERNEL INITRD [OPTION...]
set -eu
riffle=$1 kernel=$2 initrd=$3
shift 3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
truncate -s 32M "$dir/scratch"
head -c 8M /dev/zero | tr '\0' r >"$dir/ro"
truncate -s 16M "$dir/gpt"
# a protective MBR and a GPT with one partition, whose id is fixed
printf 'label: gpt\nstart=2048, uuid=11111111-2222-3333-4444-555555555555\n' | sfdisk -q "$dir/gpt"
truncate -s 8M "$dir/lied"
"$riffle" run -m 128M -i "$initrd" --disk "$dir/scratch,serial=scratch,io=uring" --disk "$dir/ro,ro,io=threads" \
	--disk "$dir/gpt,cache=none" --disk "$dir/lied,cache=unsafe" --rng "$@" "$kernel"

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of a guest that writes numbered blocks to /dev/vda and says `synced N` when block N is on stable storage.
# shellcheck source=tests/guest/begin.sh
. /begin.sh
n=0
while [ "$n" -lt 8192 ]; do
	printf '%4095d\n' "$n" | dd of=/dev/vda bs=4096 seek="$n" conv=notrunc,fsync 2>/dev/null && echo "synced $n"
	n=$((n + 1))
done

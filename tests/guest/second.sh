#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of a kernel that kexec started: what it says of the first one's memory, and the end.
. /begin.sh
echo "second: up"
if [ -e /proc/vmcore ]; then
	echo "second: vmcore of $(dd if=/proc/vmcore bs=1M 2>/dev/null | wc -c) bytes"
	head -c 65536 /proc/vmcore | grep -a "^SYMBOL(_stext)=\|^SYMBOL(init_uts_ns)=" | sed 's/^/second: /'
fi
poweroff -f

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# An init that starts another kernel by kexec, or leaves it for a panic and panics (riffle.kexec=crash).
. /begin.sh
line="console=ttyS0 panic=-1 cryptomgr.notests maxcpus=1 reset_devices"
if grep -q riffle.kexec=crash /proc/cmdline; then
	kexec /kernel /second "$line" crash && echo "kexec: loaded" && echo c >/proc/sysrq-trigger
else
	kexec /kernel /second "$line"
fi
echo "kexec: failed"
poweroff -f

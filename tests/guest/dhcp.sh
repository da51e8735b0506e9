#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What udhcpc calls in tests/guest/network.sh: sets the address; the default route leads through passt.
export PATH=/bin
[ "$1" = bound ] || exit 0
# shellcheck disable=SC2154 # udhcpc's variables
ip addr add "$ip/${mask:-24}" dev "$interface"
# shellcheck disable=SC2154
ip route add default via "$router" dev "$interface" onlink

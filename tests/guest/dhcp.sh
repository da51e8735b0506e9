#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# udhcpc's script for tests/guest/network.sh: sets the address and the default route through passt.
export PATH=/bin
[ "$1" = bound ] || exit 0
# shellcheck disable=SC2154 # udhcpc's variables
ip addr add "$ip/${mask:-24}" dev "$interface"
# shellcheck disable=SC2154
ip route add default via "$router" dev "$interface" onlink

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The init of a guest that reads its metadata with the host side tests/e2e/mmds.py; prints `NAME: ok` or `NAME: FAILED` for
# each check, and reboots. mmds.version=V1|V2 is on the command line, as is mmds.bytes=N, the length of /large.
# shellcheck source=tests/guest/begin.sh
. /begin.sh
mount -t tmpfs tmp /tmp
version='' bytes=0 token=''
read -r line </proc/cmdline
for word in $line; do
	case $word in
	mmds.version=*) version=${word#*=} ;;
	mmds.bytes=*) bytes=${word#*=} ;;
	esac
done
service=169.254.169.254

# the service's response to a request of these lines, head and body
talk() {
	printf '%s\r\n' "$@" '' | nc -w 60 $service 80
}

# the body of the response to GET PATH, with additional headers
get() {
	path=$1
	shift
	wget -q -O - --header "X-metadata-token: $token" "$@" "http://$service$path"
}

status() { # WANTED PATH: also for responses that wget does not show
	talk "GET $2 HTTP/1.1" "X-aws-ec2-metadata-token: $token" | head -n 1 | grep -q "^HTTP/1.1 $1 "
}

without_token() {
	answer=$(talk 'GET /name HTTP/1.1')
	case $version in
	V1) echo "$answer" | grep -q '^riffle$' ;;
	*) echo "$answer" | grep -q '^HTTP/1.1 401 ' && echo "$answer" | grep -q 'No MMDS token provided' ;;
	esac
}

wrong_token() {
	answer=$(talk 'GET /name HTTP/1.1' 'X-metadata-token: foo')
	case $version in
	V1) echo "$answer" | grep -q '^riffle$' ;;
	*) echo "$answer" | grep -q 'MMDS token not valid.' ;;
	esac
}

new_token() {
	answer=$(talk 'PUT /latest/api/token HTTP/1.1' 'X-metadata-token-ttl-seconds: 60')
	echo "$answer" | grep -qi '^X-metadata-token-ttl-seconds: 60' || return 1
	token=$(echo "$answer" | tail -n 1)
	[ ${#token} = 48 ]
}

imds() {
	[ "$(get /latest/)" = "$(printf 'list\nmeta-data/')" ] && [ "$(get /latest/meta-data/id)" = i-1 ]
}

json() {
	[ "$(get /latest/meta-data --header 'Accept: application/json')" = '{"id":"i-1","number":7}' ]
}

large() {
	[ "$(get /large | wc -c)" = "$bytes" ] && [ "$(get /large | tr -d x | wc -c)" = 0 ]
}

# more connections than the service has places: none of them waits
many() {
	for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		get /name >/tmp/many.$i &
	done
	wait
	[ "$(cat /tmp/many.*)" = "$(for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do printf riffle; done)" ]
}

host() { ping -c 2 -W 10 192.168.77.1; }

pings_nobody() { ! ping -c 1 -W 2 $service; }

other_port() { ! nc -w 2 $service 81 </dev/null; }

ip link set lo up
ip addr add 192.168.77.2/24 dev eth0 && ip link set eth0 up
ip route add $service dev eth0
check host host
check without-token without_token
check wrong-token wrong_token
check new-token new_token
check imds imds
check json json
check not-found status 404 /nothing
check not-text status 501 /latest/meta-data/number
check large large
check many many
check pings-nobody pings_nobody
check other-port other_port
check host-again host
echo all-done
reboot -f

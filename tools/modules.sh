# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Finds kernel modules and what they depend on, for scripts that put them into an initramfs; to be sourced.

# resolve DIR NAME...: prints the files of the modules named of the kernel whose
# modules are in DIR (lib/modules/RELEASE), each after those it depends on.
# Read from the modules themselves: a freshly unpacked package has no modules.dep.
# Compressed ones (Debian's from 6.12 on) are unpacked into the caller's $tmp.
resolve() {
	local -A known=()
	resolve_more "$@"
}

resolve_more() {
	local dir=$1 name file info depends
	shift
	for name; do
		name=${name//-/_}
		[ -z "${known[$name]:-}" ] || continue
		known[$name]=yes
		file=$(find "$dir/kernel" -name "${name//_/[-_]}.ko" -o -name "${name//_/[-_]}.ko.xz")
		# built in
		[ -n "$file" ] || ! grep -qs "/${name//_/[-_]}\.ko\$" "$dir/modules.builtin" || continue
		if [ -z "$file" ]; then
			printf 'no module %s in %s\n' "$name" "$dir" >&2
			return 1
		fi
		if [ "${file%.xz}" != "$file" ]; then
			mkdir -p "$tmp/unpacked"
			xz -dc "$file" >"$tmp/unpacked/$name.ko"
			file=$tmp/unpacked/$name.ko
		fi
		# not to /dev/stdout: a minimal /dev has none
		info=$(mktemp)
		objcopy -O binary --only-section=.modinfo "$file" "$info"
		depends=$(tr '\0' '\n' <"$info" | sed -n 's/^depends=//p')
		rm -f "$info"
		# shellcheck disable=SC2086
		resolve_more "$dir" ${depends//,/ } || return 1
		printf '%s\n' "$file"
	done
}

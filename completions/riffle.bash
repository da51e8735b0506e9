# SPDX-License-Identifier: Apache-2.0
# bash completion of riffle and its programs. What can be completed is what --help lists, so it is never out of date.

_riffle_options() {
	"$@" --help 2>/dev/null |
		sed -nE 's/^ +((-[[:alnum:]]|--[[:alnum:]-]+)(, --[[:alnum:]-]+)?)([ =[].*)?$/\1/p' | tr -d ' ' | tr ',' '\n'
}

_riffle_commands() {
	"$1" --help 2>/dev/null | sed -nE 's/^  ([a-z][a-z-]*) +[^ ].*/\1/p'
}

_riffle() {
	local program=$1 word=${COMP_WORDS[COMP_CWORD]} i words
	COMPREPLY=()
	# what follows "--" belongs to the guest, or to the monitor
	for ((i = 1; i < COMP_CWORD; i++)); do
		if [[ ${COMP_WORDS[i]} == -- ]]; then
			mapfile -t COMPREPLY < <(compgen -f -- "$word")
			return
		fi
	done
	case ${program##*/} in
	riffle)
		if ((COMP_CWORD == 1)); then
			words="$(_riffle_commands "$program") --help --version"
		else
			words=$(_riffle_options "$program" "${COMP_WORDS[1]}")
		fi ;;
	*) words=$(_riffle_options "$program") ;;
	esac
	if [[ $word == -* ]] || { [[ ${program##*/} == riffle ]] && ((COMP_CWORD == 1)); }; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
	fi
}

complete -o filenames -F _riffle riffle riffle-vmm riffle-jailer

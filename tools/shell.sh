# shellcheck shell=bash
#
# What the commands that people start (demo/run, test/run) share: an environment that does not depend on
# the caller's, a folder for all that they write, and commands that end when the script ends.
# Sourced, after $tools is set. attended belongs to attend() and end_attended().

attended= # the process group of the command that attend() waits for
tools=${tools:?}

# Forgets what the caller's environment says to make, to PostgreSQL and to cd. PG_CONFIG and PG_TEST_* stay,
# which are meant for us and for PostgreSQL's test modules.
clean_environment() {
	local name
	unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES CDPATH DESTDIR
	for name in "${!PG@}"; do
		case $name in
			PG_CONFIG | PG_TEST_*) ;;
			*) unset "$name" ;;
		esac
	done
	umask 022
}

# True if make can write all that it makes below these folders. It cannot where root built before somebody else.
can_build_in() { # folder...
	[ -z "$(find "$@" ! -writable -print -quit 2>/dev/null)" ]
}

# Makes a folder that the unprivileged user owns, and prints its name. The name is short and plain: a Unix socket's
# path has 107 bytes, and PostgreSQL's test modules do not quote it. Programs must be able to run there.
make_folder() { # begin of its name
	local parent folder
	for parent in "${TMPDIR:-/tmp}" /tmp /var/tmp; do
		[[ $parent =~ ^/[A-Za-z0-9._/-]{0,29}$ ]] || continue
		folder=$("$tools/as-user" mktemp -d "$parent/$1.XXXXXX" 2>/dev/null) || continue
		printf '#!/bin/sh\n' >"$folder/try" && chmod 755 "$folder/try"
		if "$tools/as-user" "$folder/try" 2>/dev/null; then
			rm "$folder/try"
			echo "$folder"
			return
		fi
		rm -rf "$folder"
	done
	echo "${0##*/}: no folder to work in: neither TMPDIR nor /tmp nor /var/tmp lets programs be written and run there" >&2
	echo "${0##*/}: Set TMPDIR to one that does, with a path of at most 30 letters, digits, dots and dashes." >&2
	return 1
}

# Runs a command in a process group of its own. So a signal to this script is obeyed at once (bash does so in wait
# only), and end_attended() reaches all that the command has started.
attend() { # command
	local status=0
	set -m
	"$@" </dev/null &
	attended=$!
	set +m
	wait "$attended" || status=$?
	attended=
	return "$status"
}

# Ends what attend() waits for, and waits until all of it has gone.
end_attended() {
	local tries=0 job
	# a signal may come before attend() has noted the group; other jobs lead none
	for job in $(jobs -pr); do
		if [ -z "$attended" ] && kill -0 -- "-$job" 2>/dev/null; then
			attended=$job
		fi
	done
	[ -n "$attended" ] || return 0
	kill -TERM -- "-$attended" 2>/dev/null || true
	while [ "$tries" -lt 60 ] && kill -0 -- "-$attended" 2>/dev/null; do
		sleep 0.1
		tries=$((tries + 1))
		[ "$tries" -ne 50 ] || kill -KILL -- "-$attended" 2>/dev/null || true
	done
	wait "$attended" 2>/dev/null || true
	attended=
}

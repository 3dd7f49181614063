# shellcheck shell=bash disable=SC2034,SC2154 # words of setup.sh, read by run and test
# Jobs in the background with a log, a deadline and signs of life. Sourced
# after setup.sh by ./run and ./test, which set `logs`.
#
#   job NAME SECONDS COMMAND...   starts it; its log is $logs/NAME.log
#   finish NAME...                waits for these, telling what all are doing
#   step NAME SECONDS COMMAND...  both, and ends the script when it fails
#
# Each job is a process group of its own and is ended as one. What it leaves
# behind in other groups and sessions (a QEMU, a bus) is known by a mark in its
# environment, and found by `sweep`.

declare -A job_pid=() job_start=() job_limit=() job_status=() job_time=()
job_order=()
logs=${logs:-$target/logs}
began=$SECONDS
mark=$$-$RANDOM$RANDOM

job() {
    local name=$1 limit=$2
    shift 2
    mkdir -p "$logs"
    job_order+=("$name")
    job_start[$name]=$SECONDS
    job_limit[$name]=$limit
    unset "job_status[$name]"
    set -m
    (
        set +m
        trap - INT TERM EXIT
        set -o pipefail
        export HOSTD_JOB=$mark/$name
        "$@"
    ) >"$logs/$name.log" 2>&1 </dev/null &
    job_pid[$name]=$!
    set +m
}

# The last line of a log that says something.
last_line() {
    tail -c 3000 "$logs/$1.log" 2>/dev/null | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1 |
        tr -cd '[:print:]' | cut -c1-"${2:-80}" || true
}

running() { [ -n "${job_pid[$1]:-}" ] && [ -z "${job_status[$1]:-}" ]; }

# Looks at every running job once: done, too late, or still at it.
look() {
    local name pid took
    for name in "${job_order[@]}"; do
        running "$name" || continue
        pid=${job_pid[$name]}
        took=$((SECONDS - job_start[$name]))
        if ! kill -0 "$pid" 2>/dev/null; then
            job_status[$name]=0
            wait "$pid" || job_status[$name]=$?
        elif [ "$took" -ge "${job_limit[$name]}" ]; then
            printf '\n%s has not ended after %s s, its deadline: ended by force\n' "$name" "$took" >>"$logs/$name.log"
            end_group "$pid"
            wait "$pid" 2>/dev/null || true
            sweep "$name"
            job_status[$name]=124
        else
            continue
        fi
        job_time[$name]=$took
        clear_line
        case ${job_status[$name]} in
            0) printf '  %sok%s      %-22s %4s s\n' "$green" "$plain" "$name" "$took" >&2 ;;
            124) printf '  %sTOO LATE%s %-21s %4s s (its deadline)\n' "$red" "$plain" "$name" "$took" >&2 ;;
            *) printf '  %sFAILED%s  %-22s %4s s (status %s)\n' "$red" "$plain" "$name" "$took" "${job_status[$name]}" >&2 ;;
        esac
    done
}

clear_line() { [ ! -t 2 ] || printf '\r\e[K' >&2; }

# On a terminal one line that changes; elsewhere a line for each, now and then.
told=0
tell() {
    local name line='' took
    if [ -t 2 ]; then
        [ "$SECONDS" -ne "$told" ] || return 0
        told=$SECONDS
        for name in "${job_order[@]}"; do
            running "$name" || continue
            took=$((SECONDS - job_start[$name]))
            line="$line${line:+ | }$name $took s: $(last_line "$name" 60)"
        done
        printf '\r\e[K  %s' "${line:0:$(($(tput cols 2>/dev/null || echo 80) - 4))}" >&2
    elif [ $((SECONDS - told)) -ge "${HOSTD_TELL_EVERY:-5}" ]; then
        told=$SECONDS
        for name in "${job_order[@]}"; do
            running "$name" || continue
            took=$((SECONDS - job_start[$name]))
            [ "$took" -ge 3 ] || continue
            printf '  ...     %-22s %4s s  %s\n' "$name" "$took" "$(last_line "$name")" >&2
        done
    fi
}

# finish NAME...: waits until none of them runs; fails if one has failed.
finish() {
    local name open failed=0
    while :; do
        look
        open=
        for name in "$@"; do ! running "$name" || open=1; done
        [ -n "$open" ] || break
        tell
        sleep 0.2
    done
    for name in "$@"; do [ "${job_status[$name]:-1}" = 0 ] || failed=1; done
    return $failed
}

# What went wrong, for a person: the lines that say it, the end of the log.
show_failure() {
    local name=$1 said
    [ -f "$logs/$name.log" ] || return 0
    printf '%s--- %s: %s%s\n' "$red" "$name" "$logs/$name.log" "$plain" >&2
    said=$(grep -nE "^(test .*FAILED|error(\[|:)|---- .* stdout|E: )|panicked at" "$logs/$name.log" | head -n 25 || true)
    [ -z "$said" ] || printf '%s\n--- its last lines\n' "$said" >&2
    tail -n "${2:-40}" "$logs/$name.log" | tr '\r' '\n' | tail -n "${2:-40}" >&2
    printf -- '---\n' >&2
}

step() {
    local name=$1
    job "$@"
    finish "$name" && return 0
    show_failure "$name"
    die "The step \"$name\" failed." "${next_step:-read $logs/$name.log, mend it, and run the same command again: what is done is not done again}"
}

# end_group PID: the group, politely, then not.
end_group() {
    local i
    kill -TERM -- "-$1" 2>/dev/null || return 0
    for i in $(seq 30); do
        kill -0 -- "-$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL -- "-$1" 2>/dev/null || true
}

# Ends every job; with `sweep` after it nothing of them is left.
end_jobs() {
    local name
    for name in "${job_order[@]}"; do
        running "$name" || continue
        end_group "${job_pid[$name]}"
        wait "${job_pid[$name]}" 2>/dev/null || true
    done
    [ -z "$keep_alive" ] || kill "$keep_alive" 2>/dev/null || true
}

# sweep [NAME]: ends the processes that carry the mark of this job, or of any.
sweep() {
    local signal pid left
    for signal in TERM TERM KILL; do
        left=
        for pid in $(marked "${1:-}"); do
            left=1
            kill "-$signal" "$pid" 2>/dev/null || true
        done
        [ -n "$left" ] || break
        sleep 1
    done
}

marked() {
    local file pid environ
    for file in /proc/[0-9]*/environ; do
        [ -r "$file" ] || continue
        # The first bytes of a process may vanish while they are read.
        { environ=$(tr '\0' '\n' <"$file"); } 2>/dev/null || continue
        case $'\n'$environ in
            *$'\n'"HOSTD_JOB=$mark/${1:-}"*) pid=${file#/proc/} && echo "${pid%/environ}" ;;
        esac
    done
}

# What bash knows when it runs a page of documentation; see tests/documents.py. It reads this file first.

set -Eeuo pipefail
unset BASH_ENV
trap 'echo "line $LINENO ends with exit code $?: $BASH_COMMAND" >&2' ERR
trap close_terminals EXIT

# What a program says when others may use it.
ready='"event":"started"|"event":"node_standing".*"status":"ready"|simulated nodes|^registered|^listening|Ready to accept'
terminals=()

# A command in a terminal of its own: goes on when it is ready, or has ended in order.
terminal() {
    local log=$LOGS/terminal-$RANDOM$RANDOM pid code=0
    touch "$log"
    env "$@" >"$log" 2>&1 &
    pid=$!
    until grep -qE "$ready" "$log"; do
        if ! kill -0 $pid 2>/dev/null; then
            wait $pid || code=$?
            cat "$log"
            return $code
        fi
        sleep 0.1
    done
    terminals=("$pid $log" "${terminals[@]}")
}

# Ends what runs in terminals, the last first. linguad must end in order, other programs may end of the signal.
close_terminals() {
    local each pid log code
    for each in "${terminals[@]}"; do
        read -r pid log <<<"$each"
        code=0
        kill "$pid" 2>/dev/null || true
        wait "$pid" || code=$?
        if ((code != 0 && code != 143)); then
            echo "what ran in a terminal ended with exit code $code:" >&2
            cat "$log" >&2
            exit 1
        fi
    done
    terminals=()
}

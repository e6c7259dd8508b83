#!/usr/bin/env bash
# Starts LiteLLM's proxy with litellm_config.yaml, says when it is healthy, and runs until it is
# stopped. Needs `pip install 'litellm[proxy]' nilometer`, and the providers' keys
# (ANTHROPIC_API_KEY; AWS's and Google's for their models).
#
#   HOST, PORT                           where it listens (127.0.0.1, 4000)
#   LITELLM_MASTER_KEY                   the callers' key; without one it makes one, and shows it
#   NILOMETER_URL, NILOMETER_API_KEY     the server that gets the calls
#   LITELLM_LOG_DIR                      the folder that gets them (./litellm-logs without a server)
#   READY_SECONDS                        how long it may take to start (180)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
host=${HOST:-127.0.0.1} port=${PORT:-4000}

fail() {
    echo "start-litellm-proxy: $*" >&2
    exit 1
}

command -v litellm >/dev/null || fail "there is no litellm: pip install 'litellm[proxy]'"
# LiteLLM would take another port by itself.
(exec 3<>"/dev/tcp/$host/$port") 2>/dev/null && fail "something listens on $host:$port; set PORT"
if [ -z "${LITELLM_MASTER_KEY:-}" ]; then
    LITELLM_MASTER_KEY=sk-$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    echo "The key of this run: $LITELLM_MASTER_KEY"
fi
if [ -z "${NILOMETER_URL:-}${LITELLM_LOG_DIR:-}" ]; then LITELLM_LOG_DIR=$PWD/litellm-logs; fi
export LITELLM_MASTER_KEY LITELLM_LOG_DIR=${LITELLM_LOG_DIR:-}

litellm --config "$here/litellm_config.yaml" --host "$host" --port "$port" "$@" &
proxy=$!
trap 'kill -TERM "$proxy" 2>/dev/null || true' TERM INT HUP

healthy() { curl -fsS -m 5 -o /dev/null "http://$host:$port/health/liveliness" 2>/dev/null; }
until healthy; do
    kill -0 "$proxy" 2>/dev/null || fail "LiteLLM ended before it was healthy"
    if [ "$SECONDS" -ge "${READY_SECONDS:-180}" ]; then
        kill -TERM "$proxy"
        fail "LiteLLM is not healthy after $SECONDS seconds"
    fi
    sleep 0.2
done
echo "LiteLLM is healthy on http://$host:$port; its calls go to ${NILOMETER_URL:+$NILOMETER_URL }$LITELLM_LOG_DIR"

# The first wait ends with a signal too, the second then with LiteLLM.
wait "$proxy" || true
trap - TERM INT HUP
wait "$proxy"

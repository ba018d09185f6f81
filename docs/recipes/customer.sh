# What the pages of this folder share: an account, its key, and short names for curl. In the project's folder, with
# `make up` running in another terminal:   source docs/recipes/customer.sh
SITE=${SITE:-http://127.0.0.1:8000}
DATA=${DATA:-../shared/data}
ACCOUNT=${ACCOUNT:-recipes-$RANDOM}
.venv/bin/python manage.py create_tenant "$ACCOUNT"
KEY=$(.venv/bin/python manage.py create_api_key "$ACCOUNT" --name laptop --scopes predict,read,manage,billing | tail -n 1)
api() { curl --silent --show-error --fail-with-body --header "Authorization: Bearer $KEY" "$@"; }
post() { api --header "Content-Type: application/json" --data "$@"; }
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
# Waits until a training job, an evaluation or a batch prediction has ended: the argument is its address.
ended() {
    local state
    while state=$(api "$1" | field state); [ "$state" = queued ] || [ "$state" = running ]; do sleep 1; done
    echo "$state"
    [ "$state" = succeeded ] || api "$1"
}

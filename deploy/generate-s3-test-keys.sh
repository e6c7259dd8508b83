#!/usr/bin/env bash
# Makes a key that may read and list one team's blobs in a bucket, and nothing else, for the suite in
# tests/integration/production:
#
#   deploy/generate-s3-test-keys.sh TEAM_ID BUCKET             the user, its policy, a key; writes the file
#   deploy/generate-s3-test-keys.sh --delete TEAM_ID BUCKET    all of it gone again
#   deploy/generate-s3-test-keys.sh --dry-run TEAM_ID BUCKET   say what would be done; asks AWS nothing
#
# Needs the AWS CLI, and credentials that may manage IAM users. Done again it changes nothing, as long
# as the file holds the key; without the file the user's old keys are deleted, for nobody can read a
# secret twice. The file is production-test.env in the current folder (OUTPUT names another), for its
# owner alone. POSTHOG_PROJECT_API_KEY, POSTHOG_HOST, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL are taken
# from the environment, where they are set.
set -euo pipefail
set +x # a secret passes through here
umask 077

output=${OUTPUT:-production-test.env}
policy_name=nilometer-test

die() {
    echo "generate-s3-test-keys: $*" >&2
    exit 1
}

usage() {
    echo "usage: generate-s3-test-keys.sh [--delete] [--dry-run] TEAM_ID BUCKET" >&2
    exit 2
}

# What goes into a policy and into names is checked first, letter by letter and in no language's order.
LC_ALL=C
export LC_ALL
action=create
dry_run=
while [ $# -gt 0 ]; do
    case $1 in
        --delete) action=delete ;;
        --dry-run) dry_run=yes ;;
        -*) usage ;;
        *) break ;;
    esac
    shift
done
[ $# -eq 2 ] || usage
team_id=$1
bucket=$2
[[ $team_id =~ ^[1-9][0-9]{0,17}$ ]] || die "TEAM_ID is a number, such as 123"
[[ $bucket =~ ^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$ ]] ||
    die "BUCKET is the name of a bucket: 3 to 63 lower case letters, digits, dots and hyphens"

# A user's name has 64 characters at most, so that of the bucket is in it as a checksum.
checksum=$(printf %s "$bucket" | cksum)
user=nilometer-test-$team_id-${checksum%% *}
template=$(dirname "${BASH_SOURCE[0]}")/s3/test.json
policy=$(sed -e "s/TEAM_ID/$team_id/g" -e "s/BUCKET/$bucket/g" "$template")

if [ -n "$dry_run" ]; then
    if [ "$action" = delete ]; then
        echo "Would delete the user $user with its policy and keys, and $output if it holds one of them."
    else
        echo "Would make the user $user with one key, write $output, and allow it:"
        echo "$policy"
    fi
    exit
fi
[ ! -e "$output" ] || [ -f "$output" ] || die "OUTPUT names a file, and $output is none"
command -v aws >/dev/null 2>&1 || die "the AWS CLI is not installed (https://aws.amazon.com/cli)"

export AWS_PAGER=

iam() { # iam COMMAND...: its answer as text
    aws --output text iam "$@"
}

try() { # try CODE COMMAND...: 0 when it is done; 1 when AWS answers with this error; any other ends all
    local code=$1 error
    shift
    if error=$(iam "$@" 2>&1 >/dev/null); then return 0; fi
    case $error in
        *"($code)"*) return 1 ;;
        *) die "${error//$'\n'/ }" ;;
    esac
}

keys() { # the ids of the user's keys, one a line
    iam list-access-keys --user-name "$user" --query 'AccessKeyMetadata[].[AccessKeyId]'
}

in_file() { # in_file NAME: what the file exports as NAME; nothing when there is no file
    [ ! -e "$output" ] || sed -n "s/^export $1=\"\(.*\)\"\$/\1/p" "$output"
}

of_this() { # whether the file is of this team and bucket
    [ -e "$output" ] && [ "$(in_file LLMA_TEAM_ID) $(in_file LLMA_S3_BUCKET)" = "$team_id $bucket" ]
}

quoted() { # quoted TEXT: in double quotes, as the shell reads it back
    local text=$1 special
    for special in \\ \" \$ \`; do text=${text//"$special"/"\\$special"}; done
    printf '"%s"' "$text"
}

environment() { # environment KEY_ID SECRET: the block that the suite reads
    printf '%s\n' "# PostHog Configuration"
    printf 'export %s=%s\n' \
        POSTHOG_PROJECT_API_KEY "$(quoted "${POSTHOG_PROJECT_API_KEY:-your_posthog_api_key}")" \
        POSTHOG_HOST "$(quoted "${POSTHOG_HOST:-https://app.posthog.com}")" \
        POSTHOG_PROJECT_ID "\"$team_id\""
    printf '\n%s\n' "# AWS S3 Configuration"
    printf 'export %s=%s\n' \
        AWS_ACCESS_KEY_ID "$(quoted "$1")" \
        AWS_SECRET_ACCESS_KEY "$(quoted "$2")" \
        AWS_DEFAULT_REGION "$(quoted "${AWS_DEFAULT_REGION:-${AWS_REGION:-us-east-1}}")" \
        LLMA_S3_BUCKET "\"$bucket\"" \
        LLMA_TEAM_ID "\"$team_id\""
    [ -z "${AWS_ENDPOINT_URL:-}" ] ||
        printf 'export AWS_ENDPOINT_URL=%s\n' "$(quoted "$AWS_ENDPOINT_URL")"
    printf '\n%s\n%s\n' "# Test Configuration" 'export LLMA_TEST_MODE="production"'
}

delete() {
    local id found held
    held=$(in_file AWS_ACCESS_KEY_ID)
    if ! try NoSuchEntity get-user --user-name "$user"; then
        echo "There is no user $user."
        if of_this; then
            rm -f "$output"
            echo "Deleted $output, whose key went with the user."
        fi
        return
    fi
    found=$(keys)
    for id in $found; do
        try NoSuchEntity delete-access-key --user-name "$user" --access-key-id "$id" || true
        [ "$id" != "$held" ] || rm -f "$output"
    done
    try NoSuchEntity delete-user-policy --user-name "$user" --policy-name "$policy_name" || true
    try NoSuchEntity delete-user --user-name "$user" || true
    echo "Deleted the user $user, with its policy and keys."
}

create() {
    local found held id pair
    held=$(in_file AWS_ACCESS_KEY_ID)
    if [ -e "$output" ] && ! of_this; then
        die "$output is of another team or bucket, and its key can't be read again: move it away"
    fi
    try EntityAlreadyExists create-user --user-name "$user" \
        --tags "Key=nilometer:team,Value=$team_id" "Key=nilometer:bucket,Value=$bucket" || true
    try none put-user-policy --user-name "$user" --policy-name "$policy_name" \
        --policy-document "$policy"
    found=$(keys)
    if [ -n "$held" ] && [[ $'\n'$found$'\n' == *$'\n'$held$'\n'* ]]; then
        chmod 600 "$output"
        echo "The user $user has its policy, and $output its key."
        return
    fi
    new=$(mktemp "$output.XXXXXX") # before there is a secret that could not be kept
    for id in $found; do
        try NoSuchEntity delete-access-key --user-name "$user" --access-key-id "$id" || true
    done
    pair=$(iam create-access-key --user-name "$user" --query 'AccessKey.[AccessKeyId,SecretAccessKey]')
    environment "${pair%%$'\t'*}" "${pair#*$'\t'}" > "$new"
    mv "$new" "$output"
    echo "The user $user has its policy, and $output its new key. Use it: source $output"
}

new=
trap '[ -z "$new" ] || rm -f "$new"' EXIT
"$action"

#!/usr/bin/env bash
# Runs the quick tests in new environments with the oldest and the newest supported versions.
set -euo pipefail
cd "$(dirname "$0")/.."

python=python3
which=both
# A newer tensorflow-metadata needs a protobuf that this TensorFlow does not stand.
oldest=("keras==3.9.*" "tensorflow==2.18.*" "tensorflow-metadata<1.18")
newest=("keras" "tensorflow")
folder=

usage() {
    cat <<END
Usage: tools/check_versions.sh [OPTION]... [-- ARGUMENT_OF_PYTEST...]

Makes an environment with the oldest and one with the newest supported versions of Keras and
TensorFlow, and runs the quick tests in each.

  --only oldest|newest  one of the two
  --keras VERSION       one environment with this Keras (a version such as 3.10.*) ...
  --tensorflow VERSION  ... and this TensorFlow; what is not given is the newest
  --python COMMAND      Python to make the environments with, default: python3
  --folder FOLDER       where to make the environments, and to find them again in the next run;
                        default: a temporary folder that is removed
  --help                this text

Example: tools/check_versions.sh --only oldest -- tests/optimizers -x
END
}

refuse() {
    echo "check_versions.sh: error: $1" >&2
    exit 2
}

keras=
tensorflow=
while [ $# -gt 0 ]; do
    case $1 in
        --only | --keras | --tensorflow | --python | --folder)
            [ $# -ge 2 ] && [ -n "$2" ] || refuse "$1 needs a value"
            case $1 in
                --only) which=$2 ;;
                --keras) keras=$2 ;;
                --tensorflow) tensorflow=$2 ;;
                --python) python=$2 ;;
                --folder) folder=$2 ;;
            esac
            shift 2
            ;;
        --help)
            usage
            exit
            ;;
        --)
            shift
            break
            ;;
        *) refuse "unknown option '$1', see --help" ;;
    esac
done
case $which in
    both | oldest | newest) ;;
    *) refuse "--only must be oldest or newest, received '$which'" ;;
esac
command -v "$python" >/dev/null || refuse "--python: no command '$python'"

if [ -z "$folder" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

failed=()
# Arguments: name of the environment, requirements, `--`, arguments of pytest.
check() {
    local name=$1 requirements=()
    shift
    while [ "$1" != -- ]; do
        requirements+=("$1")
        shift
    done
    shift
    local environment=$folder/$name
    printf '\n== %s: %s\n' "$name" "${requirements[*]}"
    [ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
    if ! "$environment/bin/python" -m pip install --quiet --upgrade --disable-pip-version-check \
        -e ".[examples,test]" "${requirements[@]}"; then
        failed+=("$name (not installed)")
        return
    fi
    "$environment/bin/python" -m pip list --disable-pip-version-check --format freeze |
        grep -iE '^(keras|tensorflow|numpy|scipy)=='
    TF_CPP_MIN_LOG_LEVEL=3 "$environment/bin/python" -m pytest -q "$@" || failed+=("$name")
}

if [ -n "$keras$tensorflow" ]; then
    check "keras${keras:+-$keras}-tensorflow${tensorflow:+-$tensorflow}" \
        "keras${keras:+==$keras}" "tensorflow${tensorflow:+==$tensorflow}" -- "$@"
else
    [ "$which" = newest ] || check oldest "${oldest[@]}" -- "$@"
    [ "$which" = oldest ] || check newest "${newest[@]}" -- "$@"
fi

echo
if [ ${#failed[@]} -gt 0 ]; then
    printf 'Failed: %s\n' "${failed[@]}"
    exit 1
fi
echo "All passed."

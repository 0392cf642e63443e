#!/usr/bin/env bash
# Writes .ci/constraints.txt anew: the one set of versions that the README's commands install, so
# that a release elsewhere cannot break a clone. Needs uv; the versions are then tried by .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."
{
    echo "# Made by .ci/constraints.sh from pyproject.toml; not edited by hand."
    uv pip compile -q --universal --no-header --no-annotate --upgrade --extra dev --python-version 3.11 pyproject.toml
} > .ci/constraints.new
mv .ci/constraints.new .ci/constraints.txt

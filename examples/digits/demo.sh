#!/usr/bin/env bash
# What TensorTime does, on a real training: three runs with changes between them, then back to the first.
# Called by `make demo`, with the environment's python and tensortime first on the PATH.
set -euo pipefail

example=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
unset TENSORTIME TENSORTIME_STORE TENSORTIME_EXPERIMENT
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

say() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; shift; [ $# = 0 ] || printf '%s\n' "$@"; }
run() { printf '\n$ %s\n' "$*"; eval "$*"; }
differs() { printf '\nDIFFERENT: %s\n' "$1" >&2; exit 1; }

# Of each path all but the bytes: kind and permissions, and where a link leads.
list_modes() {
    (cd "$1" && find . \( -name .git -o -name .tensortime \) -prune -o ! -name . -exec ls -ld {} + \
        | awk '{ print substr($1, 1, 10), $9, $10, $11 }' | LC_ALL=C sort -k 2)
}

demo=$(mktemp -d "${TMPDIR:-/tmp}/tensortime-demo.XXXXXX")
mkdir "$demo/digits"
cp "$example"/{train.py,make_data.py,README.md,.ttignore} "$demo/digits"

say "A project as anybody has one: two scripts, and 4 MB of data. No git, no account, no set-up."
run "cd '$demo/digits'"
run python make_data.py
run ls -l . data

say "Kept aside with cp, to compare with at the end."
run cp -a . ../before

say "The first run. train.py knows TensorTime: it backs up at its top, and adds what it made when it is done."
run "grep -n 'TimeMachine\|tm\.' train.py"
run python train.py --lr 0.001
cp -a save ../before/

say "The second run. The code changes: another activation function, and more of the data is kept for the test."
run "sed -i.old 's/\"relu\"/\"tanh\"/; s/TEST_SHARE = 0.2/TEST_SHARE = 0.3/' train.py && rm train.py.old"
run python train.py --lr 0.003

say "The third run. The data changes: a noisy file takes the place of the old one."
run python make_data.py --noise 0.3
run python train.py --lr 0.01 --epochs 3

say "Of the first run nothing is left here: the code, the data and the model are others. But:"
run tensortime log

say "All about the newest one, which is always called @:"
run tensortime show @

say "What made the difference between the first and the newest? Causes first, then effects."
run tensortime diff lr0.001 @

say "Back to the first. Any part of its name will do that no other name has."
run tensortime restore lr0.001
restored=$(echo tensortime/*lr0.001)
[ -d "$restored" ] || differs "there is no folder $restored"

say "Is it what was kept aside? First every byte, then every permission."
run diff -r -x .git -x .tensortime ../before "$restored" || differs "the bytes"
run "diff <(list_modes ../before) <(list_modes $restored)" || differs "the permissions"
printf '\n%s\n' "No difference in $(find ../before -type f | wc -l | tr -d ' ') files, $(du -sk ../before | cut -f 1) KB."

say "What it takes on the disk: two data files, three models and their code, each stored once; and the restored folder."
run du -sh tensortime/.objects tensortime/.shadow "$restored"

say "Yours to look at, and to remove when you have seen enough:" \
    "    cd '$demo/digits'" \
    "    PATH='$(dirname "$(command -v tensortime)")':\$PATH" \
    "    tensortime --help"

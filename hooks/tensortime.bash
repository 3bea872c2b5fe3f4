# TensorTime's hook for bash 4.4 and later. In ~/.bashrc, near its end:
#     eval "$(tensortime hook bash)"
# A typed line that trains is preceded by a backup. `tensortime hook --before` decides; here is only what costs
# nothing. PS0 runs the hook: no trap, no PROMPT_COMMAND, and $?, $_ and PIPESTATUS stay as they are.

# Whether a line could train, in a place that could have a store.
__tensortime_could_train() {
    local trains='(^|[^[:alnum:]_.-])(i?python[0-9.]*|pypy[0-9.]*|torchrun|accelerate|deepspeed|uv)["'\'']?[[:space:]]|\./[^[:space:]]*\.py'
    local elsewhere='(cd|pushd)[[:space:]]|(^|[[:space:]"'\''])(/|~|\.\./)[^[:space:]]*\.py'
    [[ $1 =~ $trains && ${#1} -lt 20000 ]] || return 1
    [[ -n ${TENSORTIME_STORE-} || $1 =~ $elsewhere ]] && return 0
    local folder=$PWD
    until [[ -e $folder/tensortime/.shadow || -e $folder/tensortime.toml || -e $folder/pyproject.toml || -f $folder/.git ]]; do
        [[ $folder == */?* ]] || return 1
        folder=${folder%/*}
    done
}

__tensortime_before() {
    # Not as a word: every user of the machine can read those, and a key may be among what was typed.
    type -P tensortime >/dev/null && builtin printf '%s\n' "$1" | command tensortime hook --before >&2
    return 0
}

# The newest line of the history, its first word expanded if it is an alias: into `line` and `number` of the caller.
__tensortime_newest_line() {
    local HISTTIMEFORMAT='' first
    [[ $(builtin history 1) =~ ^[[:space:]]*([0-9]+)[*]?[[:space:]]+(.*)$ ]] || return 1
    number=${BASH_REMATCH[1]} line=${BASH_REMATCH[2]} first=${BASH_REMATCH[2]%%[[:space:]]*}
    [[ -n $first && -n ${BASH_ALIASES[$first]-} ]] && line=${BASH_ALIASES[$first]}${line:${#first}}
    return 0
}

# From PS0, in a subshell. Prints 1 where the newest line of the history may not be the one that was typed:
# HISTCONTROL and HISTIGNORE keep lines out of it, and a line that is repeated is not added either.
__tensortime_preexec() {
    local line number last
    [[ -o history ]] && __tensortime_newest_line && __tensortime_could_train "$line" || return 0
    # `fc -1` is the line before, but where the typed one was not added.
    last=$(builtin fc -l -1 2>/dev/null)
    if [[ ${last%%[!0-9]*} == "$number" && ${HISTCONTROL-}:${HISTIGNORE:+ignorespace} == *ignore[sb]* ]]; then
        printf 1
    else
        __tensortime_before "$line"
    fi
}

# After such a doubt, before the first command: it must be what the newest line begins with, but for blanks, which bash
# puts as it likes. $1 is $_, to be kept.
__tensortime_in_doubt() {
    local line number typed runs=${BASH_COMMAND//[[:space:]]/}
    __tensortime_doubt=0
    if __tensortime_newest_line && __tensortime_could_train "$line"; then
        typed=${line//[[:space:]]/}
        [[ $typed == "$runs" || $typed == "$runs"[\;\&\|]* ]] && __tensortime_before "$line"
    fi
    : "$1"
}

# For bash-preexec, which knows the typed line.
__tensortime_typed() {
    __tensortime_could_train "$1" && __tensortime_before "$1"
    return 0
}

if [[ $- == *i* ]] && ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)); then
    __tensortime_doubt=0 __tensortime_nothing=''
    if [[ ${PS0-} == *__tensortime_preexec* || " ${preexec_functions[*]-} " == *' __tensortime_typed '* ]]; then
        : # it is there already
    elif [[ -n ${bash_preexec_imported-}${__bp_imported-} ]]; then
        preexec_functions+=(__tensortime_typed)
    else
        # A subshell cannot set a variable, but what it prints can be assigned in an arithmetic expansion.
        # shellcheck disable=SC2016 # PS0 is expanded each time
        PS0=${PS0-}'${__tensortime_nothing:$((__tensortime_doubt=0$(__tensortime_preexec))):0}'
        if [[ ${HISTCONTROL-}:${HISTIGNORE:+ignorespace} == *ignore[sb]* && -z $(trap -p DEBUG) ]]; then
            trap '((!${__tensortime_doubt-0})) || __tensortime_in_doubt "$_"' DEBUG
        fi
    fi
fi

# TensorTime's hook for zsh. In ~/.zshrc:
#     eval "$(tensortime hook zsh)"
# A typed line that trains is preceded by a backup. `tensortime hook --before` decides; here is only what costs
# nothing.

if [[ -o interactive ]]; then
    # $3 is the typed line with its aliases expanded.
    __tensortime_preexec() {
        emulate -L zsh
        local MATCH folder=$PWD
        local -i MBEGIN MEND
        local -a match mbegin mend
        local trains='(^|[^[:alnum:]_.-])(i?python[0-9.]*|pypy[0-9.]*|torchrun|accelerate|deepspeed|uv)["'\'']?[[:space:]]|\./[^[:space:]]*\.py'
        local elsewhere='(cd|pushd)[[:space:]]|(^|[[:space:]"'\''])(/|~|\.\./)[^[:space:]]*\.py'
        [[ $3 =~ $trains ]] && (( ${#3} < 20000 )) || return 0
        if [[ -z $TENSORTIME_STORE && ! $3 =~ $elsewhere ]]; then
            until [[ -e $folder/tensortime/.shadow || -e $folder/tensortime.toml || -e $folder/pyproject.toml || -f $folder/.git ]]; do
                [[ $folder == */?* ]] || return 0
                folder=${folder%/*}
            done
        fi
        # Not as a word: every user of the machine can read those, and a key may be among what was typed.
        # No pipe either: then Ctrl-C would no longer keep the typed command from running.
        whence -p tensortime >/dev/null && command tensortime hook --before < <(builtin print -r -- "$3") >&2
        return 0
    }
    autoload -Uz add-zsh-hook
    add-zsh-hook preexec __tensortime_preexec
fi

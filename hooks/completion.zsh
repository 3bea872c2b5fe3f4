# Completion of tensortime for zsh. In ~/.zshrc, behind compinit if that is there:
#     eval "$(tensortime completion zsh)"
# `tensortime completion --words` decides what is offered; here it is only asked.

_tensortime() {
    emulate -L zsh
    setopt extended_glob
    local line word about
    local -a typed plain plain_shown open open_shown
    local -i widest=0
    typed=("${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}")
    local -a lines
    lines=("${(@f)$(command tensortime completion --words $((CURRENT - 1)) -- "${(@)typed}" 2>/dev/null </dev/null)}")
    for line in "${(@)lines}"; do
        word=${line%%$'\t'*}
        (( ${#word} > widest && ${#word} < 50 )) && widest=${#word}
    done
    for line in "${(@)lines}"; do
        word=${line%%$'\t'*} about=${line#*$'\t'}
        case $line in
            '') ;;
            $'\tfiles') compset -P '--[^=]##='; _files ;;
            $'\tfolders') compset -P '--[^=]##='; _files -/ ;;
            */$'\t'*) open+=("$word") open_shown+=("$word") ;;
            *) plain+=("$word") plain_shown+=("${word}${(l:widest - ${#word}:)}${about:+  $about}") ;;
        esac
    done
    # They are chosen already (-U), and in an order (-V).
    (( $#open )) && compadd -U -V tensortime-folders -S '' -d open_shown -- "${(@)open}"
    (( $#plain )) && compadd -U -V tensortime -l -d plain_shown -- "${(@)plain}"
    return 0
}

if [[ -o interactive ]]; then
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i -D }
    compdef _tensortime tensortime
fi

# Completion of tensortime for bash 4.4 and later. In ~/.bashrc:
#     eval "$(tensortime completion bash)"
# `tensortime completion --words` decides what is offered; here it is only asked and quoted.

__tensortime_complete() {
    local rest word line broken='' number quote='' words=()
    COMPREPLY=()
    rest=${COMP_LINE:0:COMP_POINT}
    # bash breaks words at : and = and @ as well: what no blank parts is one.
    for ((number = 0; number <= COMP_CWORD; number++)); do
        word=${rest#"${rest%%[![:space:]]*}"}
        [[ $number == 0 || $word != "$rest" ]] && words+=('')
        rest=$word
        ((number < COMP_CWORD)) && word=${COMP_WORDS[number]}
        words[-1]+=$word
        rest=${rest#"$word"}
    done
    word=${words[-1]}
    [[ $word == [\"\']* ]] && quote=${word:0:1}
    words=("${words[@]//[\"\']/}")
    words=("${words[@]//\\/}")
    word=${words[-1]}
    # Only what lies behind the last of these is replaced.
    for number in : = @; do
        [[ -z $quote && $COMP_WORDBREAKS == *"$number"* && $word == *"$number"* ]] || continue
        line=${word%"${word##*"$number"}"}
        ((${#line} > ${#broken})) && broken=$line
    done
    while IFS= read -r line; do
        case $line in
            $'\tfiles') compopt -o default ;;
            $'\tfolders') compopt -o dirnames ;;
            *)
                line=${line%%$'\t'*}
                [[ $line == */ ]] && compopt -o nospace
                line=${line#"$broken"}
                [[ -n $quote ]] || printf -v line %q "$line"
                COMPREPLY+=("$line")
                ;;
        esac
    done < <(command tensortime completion --words $((${#words[@]} - 1)) -- "${words[@]}" 2>/dev/null </dev/null)
    return 0
}

complete -o nosort -F __tensortime_complete tensortime

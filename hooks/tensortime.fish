# TensorTime's hook for fish. In ~/.config/fish/config.fish:
#     tensortime hook fish | source
# A typed line that trains is preceded by a backup. `tensortime hook --before` decides; here is only what costs
# nothing.

if status is-interactive
    function __tensortime_preexec --on-event fish_preexec
        set -l line "$argv[1]"
        # An alias is a function that says so in its description.
        set -l first (string match -r '^[^\s;&|]+' -- $line)
        if test -n "$first"; and functions --query -- $first
            set -l alias (functions --details --verbose -- $first)[5]
            set -l body (string replace -rf '^alias [^= ]+[= ]' '' -- $alias)
            and set line "$body"(string sub -s (math (string length -- $first) + 1) -- $line | string collect)
        end
        string match -qr '(^|[^\w.-])(i?python[0-9.]*|pypy[0-9.]*|torchrun|accelerate|deepspeed|uv)["\']?\s|\./\S*\.py' -- $line
        and test (string length -- $line) -lt 20000
        or return 0
        if not set -q TENSORTIME_STORE
            and not string match -qr '(cd|pushd)\s|(^|[\s"\'])(/|~|\.\./)\S*\.py' -- $line
            set -l folder $PWD
            while not test -e $folder/tensortime/.shadow -o -e $folder/tensortime.toml -o -e $folder/pyproject.toml -o -f $folder/.git
                string match -q '*/?*' -- $folder
                or return 0
                set folder (string replace -r '/[^/]*$' '' -- $folder)
            end
        end
        # Not as a word: every user of the machine can read those, and a key may be among what was typed.
        command --query tensortime
        and printf '%s\n' "$line" | command tensortime hook --before >&2
        return 0
    end
end

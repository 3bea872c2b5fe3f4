# Completion of tensortime for fish. In ~/.config/fish/config.fish:
#     tensortime completion fish | source
# `tensortime completion --words` decides what is offered; here it is only asked.

function __tensortime_complete
    set -l words (commandline -opc)
    set -l raw (commandline -ct)
    set -l token (string unescape -- $raw 2>/dev/null)
    or set token (string replace -ra '["\'\\\\]' '' -- $raw)
    set -l before (string match -r -- '^--[^=]+=' "$token")
    set -l rest (string replace -r -- '^--[^=]+=' '' "$token")
    for line in (command tensortime completion --words (count $words) -- $words "$token" 2>/dev/null </dev/null)
        switch $line
            case \tfiles
                printf '%s\n' "$before"(__fish_complete_path "$rest")
            case \tfolders
                printf '%s\n' "$before"(__fish_complete_directories "$rest" '')
            case '*'
                printf '%s\n' $line
        end
    end
end

complete --command tensortime --erase
complete --command tensortime --no-files --keep-order --arguments '(__tensortime_complete)'

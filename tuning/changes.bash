# shellcheck shell=bash disable=SC2154
# What tuning/apply and tuning/cpus share: a list of changes that is printed whole before any of it is made, and undone from a saved state.
# Uses: name, the command's; root, a directory to take for /; state, the directory of what was before; yes, 1 when changes may be made.

fail() {
    printf '%s: %s\n' "$name" "$1" >&2
    exit "${2:-1}"
}

# tidy TEXT : with one space where there were several, or tabs
tidy() {
    local -a words
    read -ra words <<<"$1" || true
    printf '%s' "${words[*]-}"
}

kinds=() places=() wants=() changes=0

# plan_value NAME FILE WANTED WHY : a setting of the kernel that is a file with a value
plan_value() {
    local title=$1 file=$2 wanted=$3 why=$4 current
    if ! [[ -r $root$file ]]; then
        printf '%s\n    skipped: this kernel has no %s\n' "$title" "$file"
        return
    fi
    # Some can be opened, and still not be read.
    current=$(tidy "$(cat "$root$file" 2>/dev/null || echo unreadable)")
    if [[ $current == "$wanted" ]]; then
        printf '%s\n    %s, as it should be\n' "$title" "$current"
        return
    fi
    printf '%s\n    %s -> %s\n    why: %s\n' "$title" "${current:-nothing}" "$wanted" "$why"
    plan value "$file" "$wanted"
}

# plan_file FILE TEXT WHY : a whole file
plan_file() {
    local file=$1 text=$2 why=$3
    if [[ ! -e $root$file ]]; then
        printf '%s\n    absent -> written with:\n' "$file"
        printf '%s\n' "$text" | sed 's/^/        /'
    elif [[ $(<"$root$file") == "$text" ]]; then
        printf '%s\n    as it should be\n' "$file"
        return
    else
        printf '%s\n    changed by:\n' "$file"
        diff -u --label now --label wanted "$root$file" - <<<"$text" | sed 's/^/        /' || true
    fi
    printf '    why: %s\n' "$why"
    plan file "$file" "$text"
}

plan() {
    kinds+=("$1") places+=("$2") wants+=("$3")
    changes=$((changes + 1))
}

# Saves how a place was before the first change, so that it can be undone however often it was changed.
remember() {
    local kind=$1 place=$2
    local saved=$state/saved/$place
    if [[ -e $saved || -e $saved.absent ]]; then return 0; fi
    mkdir -p "$(dirname "$saved")"
    if [[ -e $root$place ]]; then
        # What is saved is whole when it has its name. A value of the kernel has no size to copy by.
        if [[ $kind == file ]]; then cp -p "$root$place" "$saved.new"; else cat "$root$place" >"$saved.new"; fi
        mv "$saved.new" "$saved"
    else
        : >"$saved.absent"
    fi
    printf '%s\t%s\n' "$kind" "$place" >>"$state/places"
}

# write KIND PLACE TEXT
write() {
    local kind=$1 place=$2 text=$3
    if [[ $kind == value ]]; then
        # The message of the shell would stand between those of the command.
        { printf '%s\n' "$text" >"$root$place"; } 2>/dev/null
    elif [[ $kind == copy ]]; then
        cp -p "$text" "$root$place"
    else
        mkdir -p "$(dirname "$root$place")" && printf '%s\n' "$text" >"$root$place.new" && chmod 644 "$root$place.new" && mv "$root$place.new" "$root$place"
    fi
}

may_change() {
    if [[ $changes -eq 0 ]]; then
        printf '\nNothing is to be changed.\n'
        exit 0
    fi
    if [[ $yes -eq 0 ]]; then
        printf '\nNothing was changed. The same command with --yes makes the changes above: %d.\n' "$changes"
        exit 0
    fi
    if [[ -z $root && $EUID -ne 0 ]]; then
        fail "changes of this host take root: run it with sudo. Nothing was changed."
    fi
}

# Makes what was planned.
make_changes() {
    may_change
    mkdir -p "$state" 2>/dev/null || fail "$state cannot be made, which keeps what --undo needs: name another directory with --state. Nothing was changed."
    printf '\n'
    local i failed=0
    for ((i = 0; i < changes; i++)); do
        remember "${kinds[i]}" "${places[i]}" || fail "${places[i]} cannot be saved in $state: is it full? What was changed before it is undone with --undo."
        if write "${kinds[i]}" "${places[i]}" "${wants[i]}"; then
            printf 'changed: %s\n' "${places[i]}"
        else
            printf 'NOT changed: %s\n' "${places[i]}" >&2
            failed=$((failed + 1))
        fi
    done
    if [[ $failed -gt 0 ]]; then
        fail "$failed of $changes could not be changed. In a container, change the host instead; some interrupts cannot be moved by anybody. --undo takes the others back."
    fi
    printf 'What was before is kept in %s; --undo brings it back.\n' "$state"
}

# Plans what brings everything back, makes it, and forgets it.
undo_changes() {
    local kind place i failed=0
    [[ -e $state/places ]] || fail "there is nothing to undo: $state has no saved state (--state names another directory)"
    while IFS=$'\t' read -r kind place; do
        if [[ -e $state/saved/$place.absent ]]; then
            printf '%s\n    removed\n    why: it was not there before\n' "$place"
            plan absent "$place" ""
        elif [[ $kind == value ]]; then
            printf '%s\n    %s -> %s\n    why: that is what it was before\n' "$place" "$(tidy "$(cat "$root$place" 2>/dev/null || echo gone)")" "$(tidy "$(<"$state/saved/$place")")"
            plan value "$place" "$(<"$state/saved/$place")"
        else
            printf '%s\n    written as it was before\n    why: that is what it was before\n' "$place"
            plan copy "$place" "$state/saved/$place"
        fi
    done <"$state/places"
    may_change
    for ((i = 0; i < changes; i++)); do
        if [[ ${kinds[i]} == absent ]]; then
            rm -f "$root${places[i]}" || failed=$((failed + 1))
        else
            write "${kinds[i]}" "${places[i]}" "${wants[i]}" || failed=$((failed + 1))
        fi
    done
    [[ $failed -eq 0 ]] || fail "$failed of $changes could not be brought back; what they were is still in $state"
    rm -r "${state:?}/saved" "$state/places"
    rmdir "$state" 2>/dev/null || true
    printf '\nEverything is as it was before: %d changed.\n' "$changes"
}

# needs_value FLAG COUNT : that the flag is not the last word
needs_value() {
    if [[ $2 -lt 2 ]]; then fail "$1 needs a value: see --help" 2; fi
}

# usage : the comment at the head of the command
usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; }

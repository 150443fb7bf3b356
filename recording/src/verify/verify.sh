#!/bin/sh
# Verifies recordings with zstd, jq, sha256sum and ssh-keygen alone.
#
#   sh verify.sh [-a] [-i IDENTITY] [FOLDER [ALLOWED_SIGNERS]]
#
# FOLDER is a copy of a store, or a part of it: the folder above `v1/` (default:
# the one of this script). ALLOWED_SIGNERS has the hosts' keys, from somewhere
# that you trust; without it the key logs in FOLDER are believed. -a: FOLDER is
# a whole store, and every recording that a digest lists has to be there.
# -i: a private key, of age or OpenSSH: what is encrypted to it is decrypted with
# `age` and compared with the manifest. The rest takes no key.
#
# Prints what is wrong, one object a line. Exits with 0 when nothing is, with 1
# when something is, with 2 when it cannot be checked.
set -u
export TZ=UTC LC_ALL=C

whole=no; identity=
while :; do
    case ${1:-} in
        -a) whole=yes; shift ;;
        -i) identity=$(readlink -f "${2:-}") || exit 2; shift 2
            [ -r "$identity" ] || { echo "cannot read the identity" >&2; exit 2; } ;;
        *) break ;;
    esac
done
cd "${1:-$(dirname "$0")}" || exit 2
given=
[ -n "${2:-}" ] && { given=$(readlink -f "$OLDPWD/$2" 2>/dev/null || true); [ -r "$given" ] || given=$2; }
[ -z "$given" ] || [ -r "$given" ] || { echo "cannot read $given" >&2; exit 2; }
for tool in zstd jq sha256sum ssh-keygen ${identity:+age}; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 2; }
done
[ -d v1 ] || { echo "there is no v1/ in $PWD" >&2; exit 2; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
: >"$tmp/failed"; : >"$tmp/signers"; : >"$tmp/listed"; : >"$tmp/unread"

fail() { echo "WRONG  $1: $2" | tr -c '[:print:]\n' '?'; echo x >>"$tmp/failed"; }
sha() { sha256sum <"$1" | cut -d' ' -f1; }
# 2026-01-31T10:20:30.123Z as ssh-keygen wants it
moment() { printf '%s' "$1" | sed 's/[-:T]//g; s/[.Z].*//'; }
# signed FILE NAMESPACE SIGNERS PRINCIPAL [TIME]
signed() {
    [ -f "$1.sig" ] || { fail "$1" "its signature is missing"; return 1; }
    ssh-keygen -Y verify -f "$3" -I "$4" -n "$2" ${5:+-O "verify-time=$5"} \
        -s "$1.sig" <"$1" >"$tmp/said" 2>&1 || {
        fail "$1" "its signature is not good: $(tail -n 1 "$tmp/said")"; return 1; }
}
# plain CHUNK: its lines; 3 when the key is not for it
plain() {
    case $1 in
        *.age) [ -n "$identity" ] || return 3
            age -d -i "$identity" "$1" >"$tmp/opened" 2>"$tmp/said" || {
                grep -q 'no identity matched' "$tmp/said" && return 3
                tail -n 1 "$tmp/said" | sed 's/.*error: //' >"$tmp/why"; mv "$tmp/why" "$tmp/said"; return 1; }
            zstd -dcq "$tmp/opened" 2>"$tmp/said" ;;
        *) zstd -dcq "$1" 2>"$tmp/said" ;;
    esac
}
in_order() { sed 's|\(.*/\)\([0-9]*\)\(\.json\)$|\2 \1\2\3|' | sort -n | cut -d' ' -f2-; }

# 1. Key logs: every entry signed by the key before it.
for log in v1/host=*/keys/log=*/; do
    [ -d "$log" ] || continue
    host=${log#v1/host=}; host=${host%%/*}
    number=0; previous=$(printf '%064d' 0); before=; known=no; : >"$tmp/log"
    [ -z "$given" ] && known=yes
    for entry in $(find "$log" -name '*.json' | in_order); do
        key=$(jq -er .public_key "$entry") || { fail "$entry" "it is not readable"; break; }
        [ "$(jq .number "$entry")" = "$number" ] || { fail "$entry" "entry $number is missing"; break; }
        [ "$(jq -r .previous "$entry")" = "$previous" ] || { fail "$entry" "it does not follow the entry before it"; break; }
        [ "$number" != 0 ] || [ "log=$(printf %s "$key" | sha256sum | cut -c1-16)" = "$(basename "$log")" ] ||
            { fail "$entry" "it is the first key of another log"; break; }
        echo "h ${before:-$key}" >"$tmp/one"
        signed "$entry" auditty-key@v1 "$tmp/one" h || break
        [ -n "$given" ] && grep -qF "$key" "$given" && known=yes
        echo "$known $(moment "$(jq -r .not_before "$entry")") $key" >>"$tmp/log"
        before=$key; previous=$(sha "$entry"); number=$((number + 1))
    done
    # Valid until the next one begins.
    awk -v host="$host" '
        { if (NR > 1 && was == "yes") print host, "valid-after=\"" from "\",valid-before=\"" $2 "\"", key
          was = $1; from = $2; key = $3 " " $4 }
        END { if (was == "yes") print host, "valid-after=\"" from "\"", key }' "$tmp/log" >>"$tmp/signers"
    grep -q ^yes "$tmp/log" || fail "$log" "none of its keys is among the given ones"
done

# 2. Digest chains: none missing, none replaced.
for log in v1/host=*/digest/log=*/; do
    [ -d "$log" ] || continue
    host=${log#v1/host=}; host=${host%%/*}
    next=; previous=
    [ $whole = yes ] && { next=0; previous=$(printf '%064d' 0); }
    for digest in $(find "$log" -name '*.json' | in_order); do
        number=$(jq -er .number "$digest") || { fail "$digest" "it is not readable"; next=; continue; }
        [ "$(printf '%06d.json' "$number")" = "$(basename "$digest")" ] || fail "$digest" "it is digest $number"
        if [ -n "$next" ] && [ "$number" != "$next" ]; then
            fail "$digest" "digest $next is missing before it"
        elif [ -n "$next" ] && [ "$(jq -r .previous "$digest")" != "$previous" ]; then
            fail "$digest" "it does not follow the digest before it"
        fi
        next=$((number + 1)); previous=$(sha "$digest")
        signed "$digest" auditty-digest@v1 "$tmp/signers" "$host" "$(moment "$(jq -r .time "$digest")")" || continue
        jq -r '.sealed[] | .sha256 + "  " + .manifest' "$digest" >>"$tmp/listed"
    done
    # Every key names the newest digest of its moment.
    for entry in $(find "v1/host=$host/keys/$(basename "$log")" -name '*.json'); do
        jq -r 'select(.digest) | .digest | "\(.number) \(.sha256)"' "$entry" >"$tmp/anchor"
        while read -r number sha256; do
            file=$(find "$log" -name "$(printf '%06d.json' "$number")")
            if [ -n "$file" ]; then
                [ "$(sha "$file")" = "$sha256" ] || fail "$file" "it is not the digest that $entry names"
            elif [ $whole = yes ]; then
                fail "$log" "digest $number is missing; $entry names it"
            fi
        done <"$tmp/anchor"
    done
done

# 3. Recordings: signed at their time, whole, in order.
sessions=0
for session in v1/host=*/date=*/session=*/; do
    [ -f "${session}manifest.json" ] || {
        [ -d "$session" ] && echo "OPEN   $session: it has no final manifest"; continue; }
    sessions=$((sessions + 1))
    host=${session#v1/host=}; host=${host%%/*}
    manifest=${session}manifest.json
    jq -e '.chunks and .sealed_at' "$manifest" >/dev/null 2>&1 || { fail "$manifest" "it is not readable"; continue; }
    signed "$manifest" auditty-manifest@v1 "$tmp/signers" "$host" "$(moment "$(jq -r .sealed_at "$manifest")")"
    jq -r '.chunks[] | .sha256 + "  " + .key' "$manifest" >"$tmp/sums"
    while read -r sha256 key; do
        case $key in
            "$session"*) [ -f "$key" ] || { fail "$key" "the chunk is missing"; continue; } ;;
            *) fail "$manifest" "it lists a chunk of another recording"; continue ;;
        esac
        [ "$(sha "$key")" = "$sha256" ] || fail "$key" "its SHA-256 is not $sha256"
    done <"$tmp/sums"
    for chunk in "$session"*.jsonl.zst "$session"*.jsonl.zst.age; do
        [ -e "$chunk" ] || continue
        grep -q " $chunk\$" "$tmp/sums" || fail "$chunk" "the manifest does not list it"
    done
    (cd "$session" && sha256sum --status --strict -c SHA256SUMS) || fail "${session}SHA256SUMS" "sha256sum -c does not accept it"
    # Chain heads of the headers, and events without a hole.
    { printf '%064d\n' 0; jq -r '.chunks[].chain_head' "$manifest"; } | sed '$d' >"$tmp/heads"
    : >"$tmp/found"; : >"$tmp/seqs"; : >"$tmp/locked"
    cut -c67- "$tmp/sums" | while read -r chunk; do
        plain "$chunk" >"$tmp/events"
        case $? in
            0) ;;
            3) echo "$chunk" >>"$tmp/unread"; echo - >>"$tmp/found"
                case $chunk in *.input.*) ;; *) echo "$chunk" >>"$tmp/locked" ;; esac
                continue ;;
            *) fail "$chunk" "$(tail -n 1 "$tmp/said")" ;;
        esac
        jq -r 'select(.kind == "header") | .previous_chain_head' "$tmp/events" >>"$tmp/found" 2>/dev/null
        # What was typed stands in the chunk before, too.
        case $chunk in *.input.*) continue ;; esac
        jq 'select(.kind != "header") | .seq' "$tmp/events" >>"$tmp/seqs" 2>/dev/null
    done
    paste -d ' ' "$tmp/heads" "$tmp/found" | awk '$2 != "-" && $1 != $2 { exit 1 }' ||
        fail "$session" "its chunks do not follow each other (hash chain)"
    [ -s "$tmp/locked" ] || awk '$1 != NR { exit 1 }' "$tmp/seqs" ||
        fail "$session" "its events have a hole"
done

# 4. What the digests list has to be there, unchanged.
while read -r sha256 manifest; do
    if [ -f "$manifest" ]; then
        [ "$(sha "$manifest")" = "$sha256" ] || fail "$manifest" "a digest lists another content: it was sealed again"
    elif [ $whole = yes ] || [ -d "$(dirname "$manifest")" ]; then
        fail "$manifest" "it is missing; a digest lists it"
    fi
done <"$tmp/listed"

# 5. What a collector vouches for while the session ran.
receipts=0
for receipt in receipts/*.json; do
    [ -f "$receipt" ] || continue
    receipts=$((receipts + 1))
    signed "$receipt" auditty-receipt@v1 collector_signers auditty-collector || continue
    chunks=$(jq -r .chunks "$receipt"); head=$(jq -r .chain_head "$receipt")
    manifest=$(jq -r .recording "$receipt")manifest.json
    [ -f "$manifest" ] || continue
    [ "$(jq -r ".chunks[$chunks - 1].chain_head" "$manifest")" = "$head" ] ||
        fail "$manifest" "the collector saw another chain head after $chunks chunks: rewritten or rolled back ($receipt)"
done

if [ -s "$tmp/failed" ]; then
    echo "NOT VERIFIED: $(wc -l <"$tmp/failed") problems"
    exit 1
fi
[ $sessions != 0 ] || { echo "there is no finished recording in $PWD" >&2; exit 2; }
[ ! -s "$tmp/unread" ] || echo "ENCRYPTED: the content of $(wc -l <"$tmp/unread") chunks was not read, -i gives a key"
echo "VERIFIED: $sessions recordings, $(wc -l <"$tmp/signers") keys, $(wc -l <"$tmp/listed") listings, $receipts receipts"
[ -n "$given" ] || echo "The keys come from the same folder: compare them with ones that you trust."

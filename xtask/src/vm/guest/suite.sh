#!/bin/sh
# The tests that run in the guest. Each compares a recording, read with zstd and
# jq, with what the ssh client of a real login saw. A test is a function; it
# ends well, or with `fail`. What it writes to standard output is its remark.

STORE=/tmp/store
# Instructions that the verifier may walk in one program. It gives up at a
# million, and the count differs between kernels by a factor of several.
BUDGET=50000

fail() {
    echo "FAILED $*" >/tmp/outcome
    exit 1
}

run() {
    rm -f /tmp/outcome
    if remark=$("test_$1" 2>/tmp/errors); then
        echo "VM $1 ok${remark:+ $remark}"
        return
    fi
    [ -e /tmp/outcome ] || echo "FAILED without a reason" >/tmp/outcome
    echo "VM $1 $(cat /tmp/outcome)"
    for evidence in /tmp/errors /tmp/agent.log; do
        tail -n 12 "$evidence" | cut -c 1-400 | sed "s#^#| ${evidence##*/}: #"
    done
    find $STORE -name manifest.json | xargs -r jq -r \
        '.session | "| recorded: \(.verdict) \(.login.user) \(.command)"' | cut -c 1-200
    # Runs that the kernel left out, for each kernel program.
    awk '
        FILENAME == "/tmp/kallsyms" { names[substr($3, 10, 16)] = substr($3, 27); next }
        /^prog_tag:/ { tag = $2 }
        /^recursion_misses:/ { print "| missed runs: " $2, (names[tag] != "" ? names[tag] : tag) }
    ' /tmp/kallsyms /proc/"$agent"/fdinfo/* 2>/dev/null | sort -u
}

# Until a command succeeds, or 40 seconds have passed.
wait_for() {
    deadline=$(($(cut -d. -f1 /proc/uptime) + 40))
    until "$@"; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt $deadline ] || return 1
        sleep 0.2
    done
}

# Verdict and folder of the finished recordings of commands that start so.
# SHA256SUMS is written last. (Starting jq is the most expensive thing here.)
finished() {
    find $STORE -name SHA256SUMS | sed 's/SHA256SUMS$/manifest.json/' |
        xargs -r jq -r --arg command "$1" \
            'select(.session.command | startswith($command)) | .session.verdict + " " + input_filename' |
        sed 's#/manifest.json$##' >/tmp/finished
    [ -s /tmp/finished ]
}

# Whether a loss is one that a fully preemptible kernel can cause and that the
# recording declares: the kernel skipped a program, and counted it.
declared() {
    grep -q preempt=full /proc/cmdline || return 1
    zstd -dcq "$1"/*.jsonl.zst | grep -q '"cause":"program_missed"' || return 1
    echo "| declared: ${1##*/} lacks what skipped programs did not see" >/dev/console
    touch /tmp/declared
}

# The folder of the one recording, which must be complete, or declare what a
# fully preemptible kernel skipped: then /tmp/declared is there.
recording() {
    rm -f /tmp/declared
    wait_for finished "$1" || fail "no finished recording of '$1'"
    read -r verdict folder </tmp/finished
    [ "$(wc -l </tmp/finished)" = 1 ] || fail "not one recording of '$1': $(tr '\n' ' ' </tmp/finished)"
    (cd "$folder" && sha256sum -c -s SHA256SUMS) || fail "SHA256SUMS of '$1' differ"
    if [ "$verdict" != complete ] && ! { [ "$verdict" = lossy ] && declared "$folder"; }; then
        fail "'$1' is $verdict: $(zstd -dcq "$folder"/*.jsonl.zst | grep '"kind":"gap"' | tr '\n' ' ')"
    fi
    echo "$folder"
}

events() {
    zstd -dcq "$1"/*.jsonl.zst | jq -j "$2"
}

# The bytes of a stream. These tests use text only, so .text is exact.
bytes() {
    events "$1" "select(.kind == \"$2\" and .stream == \"$3\" and (.terminal // 0) == 0) | .text"
}

same() {
    cmp -s "$1" "$2" || fail "$3: $(wc -c <"$2") bytes recorded of $(wc -c <"$1"): $(cmp "$1" "$2" 2>&1)"
}

agent_lives() {
    kill -0 "$agent" 2>/dev/null || fail "the agent does not run"
}

# Verified instructions and name (or tag) of each kernel program, most first.
# /proc/kallsyms: `ffffffffc0001234 t bpf_prog_<tag>_<name> [bpf]`.
programs() {
    grep bpf_prog_ /proc/kallsyms >/tmp/kallsyms
    awk '
        FILENAME == "/tmp/kallsyms" { names[substr($3, 10, 16)] = substr($3, 27); next }
        /^prog_tag:/ { tag = $2 }
        /^verified_insns:/ { print $2, (names[tag] != "" ? names[tag] : tag) }
    ' /tmp/kallsyms /proc/"$agent"/fdinfo/* 2>/dev/null | sort -u | sort -rn
}

test_check() {
    auditty-agent check --config /tmp/agent.toml >/tmp/check 2>&1 ||
        fail "check ended with $?: $(tail -n 3 /tmp/check | tr '\n' ' ')"
    [ -e /tmp/agent-runs ] || fail "the agent does not start: $(tail -n 3 /tmp/agent.log | tr '\n' ' ')"
    [ -d /sys/kernel/tracing/events ] || fail "tracefs is not mounted"
    preempt=$(sed -n 's/.* preempt=\([a-z]*\).*/\1/p' /proc/cmdline)
    [ -z "$preempt" ] || dmesg | grep -q "Dynamic Preempt: $preempt" ||
        fail "this kernel does not know preempt=$preempt"
    programs >/tmp/programs
    if [ ! -s /tmp/programs ]; then
        echo "this kernel does not tell verified instructions"
        return
    fi
    read -r most program </tmp/programs
    [ "$most" -le $BUDGET ] || fail "$program: $most verified instructions"
    echo "verified instructions: $(awk '{printf "%s%s %s", sep, $2, $1; sep = ", "}' /tmp/programs)"
}

test_pty() {
    agent_lives
    ssh -tt guest 'seq 1 20000' </dev/null >/tmp/pty || fail "ssh ended with $?"
    folder=$(recording 'seq 1 20000') || exit 1
    bytes "$folder" output terminal >/tmp/pty.recorded
    same /tmp/pty /tmp/pty.recorded output
    [ "$(wc -l </tmp/pty)" = 20000 ] || fail "the client saw $(wc -l </tmp/pty) lines"
}

EXEC='cat; echo "$SSH_CONNECTION" >&2; seq 3000 >&2; exit 7'

test_exec() {
    agent_lives
    seq 1 50000 >/tmp/exec.in
    ssh guest "$EXEC" </tmp/exec.in >/tmp/exec.out 2>/tmp/exec.err
    status=$?
    [ $status = 7 ] || fail "ssh ended with $status: $(head -n 2 /tmp/exec.err)"
    folder=$(recording "$EXEC") || exit 1
    for stream in input:stdin:in output:stdout:out output:stderr:err; do
        client=/tmp/exec.${stream##*:}
        stream=${stream%:*}
        bytes "$folder" "${stream%:*}" "${stream#*:}" >/tmp/exec.recorded
        same "$client" /tmp/exec.recorded "${stream#*:}"
    done
    same /tmp/exec.in /tmp/exec.out "what came back"
    code=$(jq .session.exit_code "$folder/manifest.json")
    [ "$code" = 7 ] || fail "the exit code is $code"
}

# Of the login before.
test_login() {
    agent_lives
    folder=$(recording "$EXEC") || exit 1
    fingerprint=$(ssh-keygen -lf /run/ssh/tester.pub | cut -d' ' -f2)
    expected="tester public_key $fingerprint $(head -n 1 /tmp/exec.err)"
    recorded=$(jq -r '.session | [.login.user, .login.method, .login.key_fingerprint,
        (.connection | .client_address, .client_port, .server_address, .server_port)]
        | map(tostring) | join(" ")' "$folder/manifest.json")
    [ "$recorded" = "$expected" ] || fail "'$recorded' is not '$expected'"
}

test_argv() {
    agent_lives
    long=$(seq -s, 20000 | cut -c 1-100000)
    ssh guest "/bin/true $long" </dev/null || fail "ssh ended with $?"
    folder=$(recording '/bin/true 1,2,3,') || exit 1
    printf %s "$long" >/tmp/argv
    events "$folder" 'select(.kind == "exec" and .argv[0] == "/bin/true") | .argv[1]' >/tmp/argv.recorded
    same /tmp/argv /tmp/argv.recorded "the argument"
}

# Every second one with a terminal.
test_parallel() {
    agent_lives
    for login in 1 2 3 4 5 6 7 8; do
        terminal=$([ $((login % 2)) = 0 ] && echo -tt)
        ssh $terminal guest "seq ${login}00001 ${login}04000" </dev/null >/tmp/parallel.$login &
    done
    wait
    for login in 1 2 3 4 5 6 7 8; do
        folder=$(recording "seq ${login}00001") || exit 1
        [ -e /tmp/declared ] && continue
        stream=$([ $((login % 2)) = 0 ] && echo terminal || echo stdout)
        bytes "$folder" output $stream >/tmp/parallel.recorded
        same /tmp/parallel.$login /tmp/parallel.recorded "login $login"
        [ "$(wc -l </tmp/parallel.$login)" = 4000 ] || fail "client $login saw not all"
    done
}

STORM='for loop in 1 2 3; do (for i in $(seq 100); do /bin/true $loop-$i; done) & done; wait'

test_storm() {
    agent_lives
    ssh guest "$STORM" </dev/null || fail "ssh ended with $?"
    for loop in 1 2 3; do
        seq 100 | sed "s/^/$loop-/"
    done | sort >/tmp/storm
    folder=$(recording "$STORM") || exit 1
    [ -e /tmp/declared ] && return
    events "$folder" 'select(.kind == "exec" and .argv[0] == "/bin/true") | .argv[1], "\n"' |
        sort >/tmp/storm.recorded
    same /tmp/storm /tmp/storm.recorded "$(wc -l </tmp/storm.recorded) of 300 execs"
}

echo_is_off() {
    for terminal in /dev/pts/[0-9]*; do
        stty -F "$terminal" -a 2>/dev/null | grep -q -- ' -echo ' && return 0
    done
    return 1
}

SECRET=Tq7-hidden-Zx

# Everything the agent wrote, as it is and unpacked; an open chunk is cut, and
# what comes out until there counts.
everything_written() {
    find $STORE /tmp/spool /tmp/state /tmp/collector.db* /tmp/agent.log -type f >/tmp/files
    xargs cat </tmp/files
    grep 'zst' /tmp/files | xargs zstd -dcqf 2>/dev/null
}

MASKED='read -rs hidden; echo "${#hidden} hidden"; read -r open; echo "$open" | wc -c'

test_masked() {
    agent_lives
    rm -f /tmp/keys
    mkfifo /tmp/keys
    ssh -tt guest "$MASKED" </tmp/keys >/tmp/masked &
    exec 3>/tmp/keys
    wait_for echo_is_off || fail "the terminal never hid its input"
    echo $SECRET >&3
    wait_for grep -q "^${#SECRET} hidden" /tmp/masked || fail "the secret did not arrive: $(cat /tmp/masked)"
    echo typed-in-the-open >&3
    wait_for grep -q '^18' /tmp/masked || fail "the line did not arrive: $(cat /tmp/masked)"
    exec 3>&-
    wait
    folder=$(recording "$MASKED") || exit 1
    everything_written >/tmp/everything
    ! grep -qaF $SECRET /tmp/everything || fail "the secret is in a file: $(grep -rlaF $SECRET $(cat /tmp/files))"
    grep -qaF typed-in-the-open /tmp/everything || fail "what was typed in the open is nowhere"
    masked=$(zstd -dcq "$folder"/*.jsonl.zst | jq -s '[.[].masked_bytes // 0] | add')
    [ "$masked" = $((${#SECRET} + 1)) ] || fail "$masked bytes are masked"
}

mkdir -p /run/sshd /run/ssh /tmp/grants /tmp/state /tmp/spool $STORE
ssh-keygen -q -t ed25519 -N '' -f /run/ssh/host_key
ssh-keygen -q -t ed25519 -N '' -f /run/ssh/tester
chmod 711 /run/ssh
cat >/tmp/agent.toml <<END
[host]
id = "guest"
state_directory = "/tmp/state"
[recording]
chunk_interval = "1s"
flush_interval = "200ms"
[store]
url = "file://$STORE"
[collector]
listen = ["unix:/tmp/collector.sock"]
database = "/tmp/collector.db"
[grants]
directory = "/tmp/grants"
[spool]
directory = "/tmp/spool"
END
/usr/sbin/sshd -D -e 2>/tmp/sshd.log &
auditty-agent --config /tmp/agent.toml >/tmp/agent.log 2>&1 &
agent=$!
wait_for grep -q 'records the SSH sessions of' /tmp/agent.log && touch /tmp/agent-runs

for test in check pty exec login argv parallel storm masked; do
    run $test
done

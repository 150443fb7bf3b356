//! A PostgreSQL cluster of one test program's own, in a temporary folder.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Longest wait for the server, on a machine that does other things as well.
const DEADLINE: Duration = Duration::from_secs(120);

/// Makes the cluster, serves it until its input ends, and removes it. The input
/// ends with the test program, however that ends. Nothing is synced to disk
/// unless asked for: the tests do not cut the power.
const SCRIPT: &str = r#"
bin=$1 folder=$2
run() {
    if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi
}
cd /
run "$bin/initdb" -D "$folder/data" -U auditty -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$folder/log" 2>&1 &&
run "$bin/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c fsync=${AUDITTY_TEST_PG_FSYNC:-off} -c max_connections=200 >>"$folder/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
pkill -INT -P $server; kill -INT $server; wait $server
rm -rf "$folder"
"#;

static CLUSTER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let bin = programs()?;
    let folder = tempfile::Builder::new().prefix("auditty-pg-").tempdir();
    let folder = folder.unwrap().keep();
    // The server runs as another user.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let mut script = Command::new("bash");
    script.args(["-c", SCRIPT, "cluster"]).arg(bin).arg(&folder);
    let child = script.stdin(Stdio::piped()).spawn().unwrap();
    // Its input stays open as long as this program lives.
    std::mem::forget(child);
    let begin = Instant::now();
    while !answers(&folder) {
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(
            begin.elapsed() < DEADLINE,
            "PostgreSQL does not start: {log}"
        );
        thread::sleep(Duration::from_millis(50));
    }
    Some(folder)
});

/// The folder with the newest server's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let bins = versions.flatten().map(|version| version.path().join("bin"));
    bins.filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
        .max()
}

fn answers(folder: &Path) -> bool {
    psql(folder, "postgres", "SELECT 1")
}

fn psql(folder: &Path, database: &str, statement: &str) -> bool {
    let mut psql = Command::new("psql");
    psql.args([
        "-qX", "-U", "auditty", "-d", database, "-c", statement, "-h",
    ]);
    let output = psql.arg(folder).output();
    output.is_ok_and(|output| output.status.success())
}

/// URL of a new, empty database; `None`, said loudly, where there is no server.
pub fn database() -> Option<String> {
    named().map(|(url, _)| url)
}

/// The same, for a role that may make tables and nothing else.
pub fn plain_database() -> Option<String> {
    let (url, name) = named()?;
    let role =
        format!("CREATE ROLE plain_{name} LOGIN; GRANT CREATE ON SCHEMA public TO plain_{name}");
    assert!(psql(CLUSTER.as_ref()?, &name, &role));
    Some(url.replace("//auditty@", &format!("//plain_{name}@")))
}

fn named() -> Option<(String, String)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Some(folder) = CLUSTER.as_ref() else {
        super::skipped("the package postgresql is not installed");
        return None;
    };
    let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let create = format!("CREATE DATABASE {name}");
    assert!(psql(folder, "postgres", &create));
    let host = folder.display().to_string().replace('/', "%2F");
    Some((format!("postgres://auditty@{host}/{name}"), name))
}

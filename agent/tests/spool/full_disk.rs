//! A spool on a file system that is really small, and really full.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use auditty_agent::delivery::{Point, Spool, SpoolOptions};

use crate::common::*;

const SESSIONS: usize = 10;

/// A mounted file system; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// 64 MiB of ext4 below `path`, or a printed reason why not.
    fn new(bench: &Bench, path: PathBuf, options: &[&str]) -> Option<Self> {
        let image = bench.path("image");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        fs::create_dir_all(&path).unwrap();
        let run = |command: &mut Command| {
            let output = command.output().map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(()).ok_or(said)
        };
        let made = run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0"])
            .args(options)
            .arg(&image));
        let mounted = made.and_then(|()| {
            run(Command::new("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(&path))
        });
        match mounted {
            Ok(()) => Some(Self(path)),
            Err(reason) => {
                eprintln!("skipped: no file system can be mounted: {reason}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Takes every byte that is left.
fn fill(path: PathBuf) -> PathBuf {
    let mut file = File::create(&path).unwrap();
    for size in [1 << 20, 4096, 1] {
        let block = vec![0x5a; size];
        while file.write_all(&block).is_ok() {}
    }
    let _ = file.sync_all();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_open_sessions_are_sealed_and_what_is_refused_is_declared() {
    let bench = Bench::new();
    let Some(_mounted) = Mounted::new(&bench, bench.path("disk"), &[]) else {
        return;
    };
    let options = SpoolOptions {
        directory: bench.path("disk/spool"),
        reserve: 4 << 20,
        ..bench.options()
    };
    let store = bench.store().await;
    let (mut spool, _) = Spool::open(options, store.clone(), None).unwrap();
    let mut takers: Vec<_> = (0..SESSIONS).map(|_| Taker::begin(&mut spool)).collect();
    let give = |spool: &mut Spool, takers: &mut [Taker]| {
        let mut taken = 0;
        for number in 0..100 {
            for taker in &mut *takers {
                taken += u64::from(taker.give(spool, marker(number)));
            }
        }
        taken
    };
    assert_eq!(give(&mut spool, &mut takers), 1000);

    let filler = fill(bench.path("disk/filler"));
    let begin = Instant::now();
    loop {
        spool.tick(Instant::now());
        if give(&mut spool, &mut takers) == 0 {
            break;
        }
        assert!(begin.elapsed() < DEADLINE, "it is never full");
    }
    // Half of them end while the disk is full.
    for taker in &mut takers[..SESSIONS / 2] {
        taker.finish(&mut spool);
    }
    let folder = |taker: &Taker| {
        bench
            .path("disk/spool/sessions")
            .join(taker.id().to_string())
    };
    until(&mut spool, "the end of what is open", |_| {
        let ended = takers[..SESSIONS / 2].iter();
        ended
            .clone()
            .all(|taker| folder(taker).join("manifest.json").exists())
    })
    .await;
    assert!(
        !bench.path("disk/spool/reserve").exists(),
        "its room is used"
    );
    assert_eq!(
        give(&mut spool, &mut takers[SESSIONS / 2..]),
        0,
        "still full"
    );

    fs::remove_file(filler).unwrap();
    until(&mut spool, "room", |_| {
        bench.path("disk/spool/reserve").exists()
    })
    .await;
    assert!(
        give(&mut spool, &mut takers[SESSIONS / 2..]) > 0,
        "it goes on by itself"
    );
    for taker in &mut takers[SESSIONS / 2..] {
        taker.finish(&mut spool);
    }
    deliver(spool, &store).await;
    assert_verified(&store).await;
    let (mut lost, mut kept) = (0, 0);
    for (number, taker) in takers.iter().enumerate() {
        let events = events(&stored(&bench.path("store"), taker.id()).unwrap());
        let (recorded, declared) = account(&events);
        // What was refused to those that ended on the full disk is in no gap, as
        // nothing was taken any more; the agent's sessions count it in their
        // manifest.
        match number < SESSIONS / 2 {
            true => assert!(recorded < taker.given),
            false => assert_eq!(recorded + declared, taker.given),
        }
        lost += declared;
        kept += recorded;
    }
    println!("{kept} events recorded, {lost} declared lost");
    assert!(lost > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_on_a_full_disk_opens_in_the_reserve_and_waits_for_room() {
    let bench = Bench::new();
    let Some(_mounted) = Mounted::new(&bench, bench.path("disk"), &[]) else {
        return;
    };
    let options = SpoolOptions {
        directory: bench.path("disk/spool"),
        keys_directory: bench.path("keys"),
        reserve: 4 << 20,
        ..bench.options()
    };
    let store = bench.store().await;
    let (mut spool, _) = Spool::open(options.clone(), store.clone(), None).unwrap();
    let mut taker = Taker::begin(&mut spool);
    assert!(taker.give(&mut spool, marker(1)));
    spool.commit(&Point {
        marks: Default::default(),
        declared: None,
        connections: Default::default(),
    });
    drop(spool);
    let filler = fill(bench.path("disk/filler"));

    let (mut spool, resumable) = Spool::open(options, store.clone(), None).unwrap();
    assert_eq!(resumable.len(), 1, "it stays");
    // The chunk of the agent before is sealed.
    taker.record = resumable[0].clone();
    assert_eq!(taker.record.next_seq, 3);
    spool.tick(Instant::now());
    assert!(!taker.give(&mut spool, marker(2)));
    fs::remove_file(filler).unwrap();
    until(&mut spool, "room", |_| {
        bench.path("disk/spool/reserve").exists()
    })
    .await;
    assert!(taker.give(&mut spool, marker(3)));
    taker.finish(&mut spool);
    deliver(spool, &store).await;
    assert_verified(&store).await;
    let events = events(&stored(&bench.path("store"), taker.id()).unwrap());
    assert_eq!(account(&events), (2, 1));
}

/// Many small files use up the inodes while there are bytes enough: the spool
/// stops in time, ends what is open, and goes on when there are some again.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_inodes_is_full_and_what_is_open_is_still_sealed() {
    let bench = Bench::new();
    let Some(_mounted) = Mounted::new(&bench, bench.path("disk"), &["-N", "256"]) else {
        return;
    };
    let options = SpoolOptions {
        directory: bench.path("disk/spool"),
        // Every turn seals a chunk.
        chunk_interval: Duration::ZERO,
        reserve: 64 << 10,
        ..bench.options()
    };
    let store = bench.store().await;
    let (mut spool, _) = Spool::open(options, store.clone(), None).unwrap();
    let mut takers: Vec<_> = (0..4).map(|_| Taker::begin(&mut spool)).collect();
    let begin = Instant::now();
    // No store takes anything: chunks and seals pile up.
    until(&mut spool, "the last inode", |spool| {
        let taken: Vec<_> = takers
            .iter_mut()
            .map(|taker| taker.give(spool, marker(1)))
            .collect();
        !taken.contains(&true)
    })
    .await;
    let disk = nix::sys::statvfs::statvfs(&bench.path("disk")).unwrap();
    assert!(
        disk.blocks_available() > disk.blocks() / 2,
        "bytes are left"
    );
    assert_eq!(spool.problem().as_deref(), Some("the spool is full"));
    for taker in &mut takers[..2] {
        taker.finish(&mut spool);
    }
    let manifest = |taker: &Taker| {
        let name = format!("disk/spool/sessions/{}/manifest.json", taker.id());
        bench.path(&name).exists()
    };
    until(&mut spool, "the end of what is open", |_| {
        takers[..2].iter().all(manifest)
    })
    .await;

    // Somebody else takes all that was kept.
    let mut foreign = 0;
    while File::create(bench.path(&format!("disk/foreign-{foreign}"))).is_ok() {
        foreign += 1;
    }
    for _ in 0..20 {
        for taker in &mut takers[2..] {
            assert!(!taker.give(&mut spool, marker(2)));
        }
        spool.tick(Instant::now());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for number in 0..foreign {
        fs::remove_file(bench.path(&format!("disk/foreign-{number}"))).unwrap();
    }
    let stop = tokio_util::sync::CancellationToken::new();
    upload(&spool, store.clone(), &stop);
    until(&mut spool, "room", |spool| {
        takers[2..]
            .iter_mut()
            .map(|taker| taker.give(spool, marker(3)))
            .fold(true, |all, taken| all & taken)
    })
    .await;
    stop.cancel();
    for taker in &mut takers[2..] {
        taker.finish(&mut spool);
    }
    deliver(spool, &store).await;
    assert_verified(&store).await;
    let (mut lost, mut kept) = (0, 0);
    for taker in &takers[2..] {
        let events = events(&stored(&bench.path("store"), taker.id()).unwrap());
        let (recorded, declared) = account(&events);
        assert_eq!(recorded + declared, taker.given);
        (kept, lost) = (kept + recorded, lost + declared);
    }
    println!(
        "{kept} events recorded, {lost} declared lost, in {:?}",
        begin.elapsed()
    );
    assert!(lost > 0);
}

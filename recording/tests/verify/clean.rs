//! Many recordings with which nobody has tampered: verification finds nothing.

use auditty_recording::host::DigestReason;
use auditty_recording::key::SessionKey;
use auditty_recording::verify::{Known, Scope};
use jiff::SignedDuration;
use uuid::Uuid;

use super::common::{HOST_ID, build, one_of_each};
use super::site::Site;

/// How many; a soak has more.
fn recordings() -> u64 {
    let count = std::env::var("AUDITTY_TEST_CLEAN_RECORDINGS");
    count.map_or(300, |count| count.parse().unwrap())
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

/// A session like no other: how many events, in chunks of how many, how far apart.
async fn session(site: &mut Site, random: &mut Random) -> SessionKey {
    let key = SessionKey::new(HOST_ID, Uuid::now_v7(), site.now).unwrap();
    let every = one_of_each();
    let (mut events, mut boot_ns) = (Vec::new(), 0);
    let count = 1 + random.below(4 * every.len() as u64);
    for seq in 1..=count {
        let number = match seq {
            1 => 0,
            _ => random.below(every.len() as u64),
        };
        let mut event = every[usize::try_from(number).unwrap()].clone();
        boot_ns += random.below(1 << 40);
        (event.seq, event.boot_ns) = (seq, boot_ns);
        // The clock may be stepped: times are in no order.
        event.time = site.now + SignedDuration::from_millis(random.below(7_200_000) as i64);
        events.push(event);
    }
    let per_chunk = usize::try_from(1 + random.below(20)).unwrap();
    let built = build(&key, &events, per_chunk);
    for number in 0..built.chunks.len() {
        built.put_chunk(&site.store, number).await;
    }
    site.seal(&key, built.manifest.clone()).await;
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_corpus_raises_no_alarm() {
    let mut site = Site::new();
    let mut random = Random(1);
    site.begin().await;
    site.open_session(3).await;
    let begin = std::time::Instant::now();
    let (mut last, mut known) = (None, Known::default());
    for number in 1..=recordings() {
        last = Some(match random.below(10) {
            0 => site.interrupted_session().await,
            _ => session(&mut site, &mut random).await,
        });
        match random.below(40) {
            0 => site.rotate().await,
            1..=8 => site.digest(DigestReason::Interval).await,
            // The agent was restarted.
            9 => {
                site.digest(DigestReason::Stop).await;
                site.digest(DigestReason::Start).await;
            }
            _ => {}
        }
        site.now += SignedDuration::from_secs(random.below(5000) as i64);
        // Against what was known earlier, too.
        if number.is_power_of_two() {
            let report = site.verify(&Scope::All, &known).await;
            assert!(report.is_verified(), "{number}: {report:#?}");
            known = site.known().await;
        }
    }
    let built = begin.elapsed();
    let report = site.verify(&Scope::All, &known).await;
    assert!(report.is_verified(), "{report:#?}");
    assert_eq!(report.sealed_sessions, recordings());
    assert_eq!(report.open_sessions, 1);
    let report = site.verify(&Scope::Session(last.unwrap()), &known).await;
    assert!(report.is_verified(), "{report:#?}");
    println!(
        "{} clean recordings made in {built:?}, verified in {:?}: no alarm",
        recordings(),
        begin.elapsed() - built
    );
}

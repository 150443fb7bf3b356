//! Reports over a real server: durable, idempotent, all or nothing.
#![allow(
    clippy::unwrap_used,
    reason = "a failed step outside a test function ends the test as well"
)]

use crate::common::*;
use auditty_collector::{Location, ingest::MAX_REPORTS, server::MAX_REQUEST_LEN};
use auditty_proto::v1;
use prost::Message;
use tonic::Code;

/// Everything the collector tells about a session.
async fn all(collector: &Collector, number: u64) -> (v1::Session, Vec<v1::Command>) {
    let mut query = collector.query().await;
    let name = format!("sessions/{}", session_id(number));
    let session = query
        .get_session(v1::GetSessionRequest { name: name.clone() })
        .await
        .unwrap();
    let commands = query
        .list_commands(v1::ListCommandsRequest {
            parent: name,
            ..Default::default()
        })
        .await
        .unwrap();
    (
        session.into_inner().session.unwrap(),
        commands.into_inner().commands,
    )
}

#[tokio::test]
async fn what_was_answered_survives_a_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("c.db");
    let listen = format!("unix:{}", folder.path().join("c.sock").display());
    let collector = Collector::start(&Location::Sqlite(database), &listen).await;
    let reports = vec![session_report(1, 1), command_report(1, 2), end_report(1, 2)];
    collector
        .ingest()
        .await
        .report(batch(reports))
        .await
        .unwrap();
    // The files as they stand at this moment are what a crash leaves behind.
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    let before = all(&collector, 1).await;
    assert_eq!(before.0, session(1));
    assert_eq!(before.1.len(), 1);
    assert_eq!(before.1[0].exit_code, Some(0));
    collector.stop().await;
    assert!(!folder.path().join("c.sock").exists());

    let listen = format!("unix:{}", copy.path().join("c.sock").display());
    let crashed = Collector::start(&Location::Sqlite(copy.path().join("c.db")), &listen).await;
    assert_eq!(all(&crashed, 1).await, before);
    crashed.stop().await;
}

async fn activities(
    collector: &Collector,
    number: u64,
    page_size: i32,
    filter: &str,
) -> Vec<v1::Activity> {
    let mut query = collector.query().await;
    let mut request = v1::ListActivitiesRequest {
        parent: format!("sessions/{}", session_id(number)),
        page_size,
        filter: filter.into(),
        ..Default::default()
    };
    let mut all = Vec::new();
    loop {
        let page = query.list_activities(request.clone()).await.unwrap();
        let page = page.into_inner();
        all.extend(page.activities);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

on_both! {
    async fn activities_arrive_in_any_order_and_are_listed_in_theirs(database) {
        use v1::activity::Activity;
        let collector = database.collector().await;
        let mut reports: Vec<_> = (1..=30).rev().map(|seq| activity_report(1, seq)).collect();
        // Number 7 is a connection; its end comes first.
        reports.insert(0, connect_end_report(1, 7));
        reports.push(session_report(1, 1));
        let mut ingest = collector.ingest().await;
        for _ in 0..2 {
            ingest.report(batch(reports.clone())).await.unwrap();
        }
        let all = activities(&collector, 1, 4, "").await;
        assert_eq!(all.len(), 30);
        for (seq, found) in (1..).zip(&all) {
            let mut expected = activity(1, seq);
            if let (7, Some(Activity::Connect(connect))) = (seq, &mut expected.activity) {
                connect.sent_byte_count = Some(7);
                connect.duration = Some(auditty_proto::convert::duration(3_000_000_000));
            }
            assert_eq!(*found, expected);
        }
        let transfers = activities(&collector, 1, 0, "kind = transfer AND path : PASSWD").await;
        let transfers: Vec<_> = transfers.iter().map(|activity| activity.seq).collect();
        assert_eq!(transfers, [6, 21]);
        collector.stop().await;
    }
}

on_both! {
    async fn malformed_activities_are_refused(database) {
        let collector = database.collector().await;
        let mut ingest = collector.ingest().await;
        let changed = |change: fn(&mut v1::Activity)| {
            let mut activity = activity(1, 2);
            change(&mut activity);
            fact(v1::report::Fact::Activity(v1::ActivityReport {
                session_id: session_id(1),
                activity: Some(activity),
            }))
        };
        for (report, words) in [
            (changed(|a| a.name.clear()), "activity.activity.name"),
            (changed(|a| a.seq = 0), "activity.activity.seq"),
            (changed(|a| a.time = None), "activity.activity.time"),
            (changed(|a| a.activity = None), "is missing"),
            (changed(|a| a.kind = 1), "ACTIVITY_KIND_CONNECT"),
            (connect_end_report(1, 0), "connect_end.seq"),
        ] {
            let error = ingest.report(batch(vec![report])).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().contains(words), "{error}");
        }
        collector.stop().await;
    }
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// All of them in another order, and some of them again.
    fn shuffled<T: Clone>(&mut self, items: &[T]) -> Vec<T> {
        let mut shuffled = items.to_vec();
        for _ in 0..items.len() / 2 {
            shuffled.push(items[self.below(items.len())].clone());
        }
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, self.below(at + 1));
        }
        shuffled
    }
}

on_both! {
    async fn any_order_and_repetition_ends_the_same(database) {
        let mut reports = Vec::new();
        for number in [1, 2, 3] {
            reports.push(session_report(number, 1));
            let mut newer = session(number);
            newer.verdict = v1::Verdict::Complete.into();
            newer.grant.as_mut().unwrap().grant = session(8).grant.unwrap().grant;
            reports.push(changed_report(newer, 2));
            for seq in 1..=12 {
                reports.push(command_report(number, seq));
                reports.push(end_report(number, seq));
                reports.push(activity_report(number, seq));
            }
            reports.push(connect_end_report(number, 2));
            reports.push(connect_end_report(number, 7));
        }
        let mut first = None;
        for seed in 0..8 {
            let fresh = database.fresh();
            let collector = fresh.collector().await;
            let mut numbers = Numbers(seed);
            let reports = if seed == 0 { reports.clone() } else { numbers.shuffled(&reports) };
            // From several connections at once, in batches of all sizes.
            let mut senders = Vec::new();
            let mut rest = &reports[..];
            while !rest.is_empty() {
                let (part, after) = rest.split_at(rest.len().min(numbers.below(30) + 1));
                rest = after;
                let (part, mut ingest) = (part.to_vec(), collector.ingest().await);
                let send = async move { ingest.report(batch(part)).await.unwrap() };
                match seed {
                    0 => { send.await; }
                    _ => senders.push(tokio::spawn(send)),
                }
            }
            for sender in senders {
                sender.await.unwrap();
            }
            let mut seen = Vec::new();
            for number in [1, 2, 3] {
                let (session, commands) = all(&collector, number).await;
                assert_eq!(session.verdict(), v1::Verdict::Complete);
                assert_eq!(commands.len(), 12);
                assert_eq!(commands[3].signal, Some(9));
                assert_eq!(commands[3].duration.unwrap().seconds, 4);
                seen.push((session, commands, activities(&collector, number, 5, "").await));
            }
            let mut query = collector.query().await;
            let approved = query.list_sessions(v1::ListSessionsRequest {
                filter: "approver = dave".into(),
                ..Default::default()
            });
            assert_eq!(approved.await.unwrap().into_inner().sessions.len(), 3);
            collector.stop().await;
            assert_eq!(first.get_or_insert_with(|| seen.clone()), &seen, "order {seed}");
        }
    }
}

on_both! {
    async fn one_malformed_report_refuses_its_batch(database) {
        let collector = database.collector().await;
        let mut ingest = collector.ingest().await;
        let changed = |change: fn(&mut v1::Session)| {
            let mut session = session(1);
            change(&mut session);
            changed_report(session, 1)
        };
        let mut no_seq = end_report(1, 1);
        if let Some(v1::report::Fact::CommandEnd(end)) = &mut no_seq.fact {
            end.seq = 0;
        }
        for (report, field) in [
            (v1::Report { fact: None }, "reports[1].fact"),
            (
                changed(|s| s.session_id = "1".into()),
                "session.session.session_id",
            ),
            (changed(|s| s.name.push('x')), "session.session.name"),
            (changed(|s| s.host = None), "session.session.host.host_id"),
            (
                changed(|s| s.start_time = None),
                "session.session.start_time",
            ),
            (
                changed(|s| s.end_time.as_mut().unwrap().seconds = i64::MAX),
                "session.session.end_time",
            ),
            (
                changed(|s| s.command = "x".repeat(300_000)),
                "session.session:",
            ),
            (session_report(1, u64::MAX), "session.revision"),
            (no_seq, "reports[1].command_end.seq"),
        ] {
            let reports = vec![session_report(1, 1), report];
            let error = ingest.report(batch(reports)).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().starts_with("reports[1]."), "{error}");
            assert!(error.message().contains(field), "{field}: {error}");
        }
        let mut nobody = batch(vec![session_report(1, 1)]);
        nobody.host_id.clear();
        let error = ingest.report(nobody).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let mut query = collector.query().await;
        let listed = query.list_sessions(v1::ListSessionsRequest::default());
        assert!(listed.await.unwrap().into_inner().sessions.is_empty());
        collector.stop().await;
    }
}

on_both! {
    async fn a_session_belongs_to_the_host_that_reported_it_first(database) {
        let collector = database.collector().await;
        let mut ingest = collector.ingest().await;
        ingest
            .report(batch(vec![session_report(1, 1)]))
            .await
            .unwrap();
        let mut stolen = session(1);
        stolen.host.as_mut().unwrap().host_id = "other".into();
        for report in [
            changed_report(stolen, 9),
            command_report(1, 1),
            end_report(1, 1),
        ] {
            let mut theirs = batch(vec![report]);
            theirs.host_id = "other".into();
            let error = ingest.report(theirs).await.unwrap_err();
            assert_eq!(error.code(), Code::PermissionDenied, "{error}");
        }
        assert_eq!(all(&collector, 1).await, (session(1), vec![]));
        collector.stop().await;
    }
}

/// A report that is what it should be, of at least so many bytes.
fn filled(session: u64, seq: u64, len: usize) -> v1::Report {
    let mut command = command(session, seq);
    command.argv.push("x".repeat(len));
    fact(v1::report::Fact::Command(v1::CommandReport {
        session_id: session_id(session),
        command: Some(command),
    }))
}

on_both! {
    async fn a_compressed_bomb_is_refused(database) {
        let collector = database.collector().await;
        for (number, encoding) in [
            (1, tonic::codec::CompressionEncoding::Zstd),
            (2, tonic::codec::CompressionEncoding::Gzip),
        ] {
            let mut ingest = collector.ingest().await.send_compressed(encoding);
            // Nothing is wrong with it but its length: 64 MiB, from a few KiB.
            let each = 64 * 1024 * 1024 / MAX_REPORTS;
            let bomb = (1..=MAX_REPORTS as u64).map(|seq| filled(number, seq, each));
            let bomb = batch(bomb.collect());
            assert!(bomb.encoded_len() > 64 * 1024 * 1024);
            let error = ingest.report(bomb).await.unwrap_err();
            assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
            assert!(error.message().contains("size limit, of 4194304 bytes"), "{error}");
            // The same connection goes on, up to the limit.
            let mut full = batch(vec![session_report(number, 1)]);
            full.reports.extend((1..=400).map(|seq| filled(number, seq, 8 * 1024)));
            let rest = MAX_REQUEST_LEN - full.encoded_len() - 512;
            full.reports.push(filled(number, 401, rest));
            let len = full.encoded_len();
            assert!(MAX_REQUEST_LEN - 512 < len && len <= MAX_REQUEST_LEN, "{len}");
            ingest.report(full).await.unwrap();
            let (_, commands) = all(&collector, number).await;
            assert!(!commands.is_empty());
        }
        collector.stop().await;
    }
}

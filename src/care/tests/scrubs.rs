//! Scrubs through a year, and what they keep out of the way of.

use ScrubAct::{Pause, Start};

use super::*;
use crate::care::calendar;

#[test]
fn a_year_with_games_nights_changed_clocks_and_a_host_that_is_off() {
    let policy = ScrubPolicy { until: Some(time("08:00")), ..monthly() };
    let mut bench = Bench::scrub(&["tank"], policy, "2026-01-02T12:00");
    bench.gaming(None);
    let step = 15;
    let (mut games, mut nights) = (false, 0);
    while bench.now < at("2027-01-02T12:00") {
        // Off for ten days around the first Sunday of June.
        if (at("2026-06-01T00:00")..at("2026-06-11T00:00")).contains(&bench.now) {
            bench.now = at("2026-06-11T15:00");
            bench.reboot();
        }
        let local = bench.now.secs() / 3600 % 24;
        let plays = (18..22).contains(&local) || local == 3;
        if plays != games {
            games = plays;
            bench.vm(if games { VmState::Running } else { VmState::Off });
        }
        bench.round();
        let runs = bench.pools[0].scan.as_ref().is_some_and(|scan| scan.state == "scanning");
        let zoned = jiff::Timestamp::from_second(bench.now.secs()).unwrap().to_zoned(berlin());
        assert!(!(runs && games), "{zoned}: it runs while somebody plays");
        assert!(!runs || (2..8).contains(&zoned.hour()), "{zoned}: it runs by day");
        nights += i32::from(runs);
        bench.pass(step * 60);
    }
    // Nine hours each, of which a night gives five at most, one is played away.
    assert!((12 * 9 * 4..=12 * 9 * 4 + 12).contains(&nights), "{nights}");
    let ended: Vec<_> = bench.log.iter().filter(|(_, _, act)| *act == Pause).collect();
    assert!(ended.len() >= 12, "each month needed a second night");
    let zoned =
        |at: &Timestamp| jiff::Timestamp::from_second(at.secs()).unwrap().to_zoned(berlin());
    // The first act of each month is on its first Sunday, but in June.
    for month in 1..=12i8 {
        let first = bench
            .log
            .iter()
            .map(|(at, _, act)| (zoned(at), act))
            .find(|(at, _)| at.month() == month);
        let (first, act) = first.unwrap();
        assert_eq!(*act, Start);
        if month == 6 {
            assert_eq!(first.date(), jiff::civil::date(2026, 6, 12), "made up for after the boot");
        } else {
            assert!(first.day() <= 7 && first.weekday() == jiff::civil::Weekday::Sunday, "{first}");
        }
    }
}

#[test]
fn a_date_in_the_hour_that_is_left_out_and_in_the_one_that_comes_twice() {
    let policy = ScrubPolicy {
        every: Days::Nth(1, jiff::civil::Weekday::Sunday),
        at: time("02:30"),
        ..monthly()
    };
    let local = |at: Timestamp| jiff::Timestamp::from_second(at.secs()).unwrap().to_zoned(berlin());
    // 2026-03-29 has no 02:30: an hour later by the clock.
    let due = calendar::next(&policy, &local(at("2026-03-29T01:00"))).unwrap();
    assert_eq!(due, at("2026-03-29T03:30"));
    // 2026-10-25 has it twice: the first counts, and after it the next day's.
    let due = calendar::next(&policy, &local(at("2026-10-25T01:00"))).unwrap();
    assert_eq!(local(due).offset().seconds(), 7200);
    let again = calendar::next(&policy, &local(due)).unwrap();
    assert_eq!(again, at("2026-10-26T02:30"));
    assert_eq!(calendar::last(&policy, &local(again)), Some(again));
}

#[test]
fn every_rule_has_its_dates() {
    use jiff::civil::Weekday::{Friday, Sunday, Wednesday};
    let next = |every, now: &str| {
        let policy = ScrubPolicy { every, ..monthly() };
        let now = jiff::Timestamp::from_second(at(now).secs()).unwrap().to_zoned(berlin());
        let (next, last) =
            (calendar::next(&policy, &now).unwrap(), calendar::last(&policy, &now).unwrap());
        assert!(last.secs() <= now.timestamp().as_second() && next > last);
        next
    };
    // A Monday.
    let now = "2026-11-23T12:00";
    assert_eq!(next(Days::Week(Wednesday), now), at("2026-11-25T02:00"));
    assert_eq!(next(Days::First(Sunday), now), at("2026-12-06T02:00"));
    assert_eq!(next(Days::Month(28), now), at("2026-11-28T02:00"));
    let friday = next(Days::Nth(14, Friday), now);
    assert!([at("2026-11-27T02:00"), at("2026-12-04T02:00")].contains(&friday));
    let after = next(Days::Nth(14, Friday), "2026-12-04T12:00");
    assert!([at("2026-12-11T02:00"), at("2026-12-18T02:00")].contains(&after));
    assert_eq!(next(Days::Nth(1, Sunday), "2026-11-23T02:00"), at("2026-11-24T02:00"));
}

#[test]
fn a_new_policy_waits_for_its_first_date_and_one_that_was_missed_is_made_up_for() {
    let mut bench = Bench::scrub(&["tank"], monthly(), "2026-11-23T12:00");
    let job = bench.minutes(10);
    assert_eq!((job.state.as_str(), job.next), ("waiting", Some(at("2026-12-06T02:00"))));
    assert!(bench.acts().is_empty());
    // Off on that day.
    bench.now = at("2026-12-09T19:00");
    bench.reboot();
    let job = bench.minutes(3);
    assert_eq!((job.state.as_str(), job.health), ("held", Severity::Ok));
    assert!(job.message.contains("due since 2026-12-06 02:00") && bench.log.is_empty(), "{job:?}");
    assert_eq!(bench.minutes(4).state, "running");
    assert_eq!(bench.acts(), [Start]);
    bench.pass(10 * 3600);
    let job = bench.minutes(1);
    assert_eq!((job.state.as_str(), job.next), ("waiting", Some(at("2027-01-03T02:00"))));
    assert!(job.last.is_some() && bench.acts().is_empty());
}

/// Due, and with nothing in the way.
fn due() -> Bench {
    let mut bench = Bench::scrub(&["tank"], monthly(), "2026-12-05T12:00");
    bench.minutes(1);
    bench.now = at("2026-12-06T02:01");
    bench
}

#[test]
fn a_game_and_a_film_hold_it_and_it_goes_on_when_it_is_calm() {
    let mut bench = due();
    bench.gaming(None);
    bench.plex(Some(1));
    assert!(bench.minutes(1).message.contains("plex has sessions"));
    assert!(bench.acts().is_empty());
    bench.plex(Some(0));
    assert_eq!(bench.minutes(4).state, "held", "it may be the next film's beginning");
    bench.minutes(3);
    assert_eq!(bench.acts(), [Start]);
    bench.minutes(10);
    bench.vm(VmState::Preparing);
    assert!(bench.minutes(0).message.contains("the VM gaming runs"));
    assert_eq!(bench.acts(), [Pause], "at once");
    bench.vm(VmState::Running);
    // hostd is started again meanwhile.
    bench.reboot();
    assert_eq!(bench.minutes(60).state, "paused");
    bench.vm(VmState::Off);
    assert_eq!(bench.minutes(4).state, "paused");
    bench.minutes(3);
    assert_eq!(bench.acts(), [Start]);
}

#[test]
fn a_vm_without_a_card_is_in_nobodys_way() {
    let mut bench = due();
    bench.config.vms = vec![Vm::plain("gaming".parse().unwrap(), Bytes(1 << 30))];
    bench.vm(VmState::Running);
    bench.minutes(1);
    assert_eq!(bench.acts(), [Start]);
}

#[test]
fn what_is_not_known_yet_holds_it() {
    let mut bench = due();
    bench.snapshot.services =
        crate::base::Reading::Unknown { why: "not yet".into(), since: bench.now };
    assert!(bench.minutes(1).message.contains("services have not been read"));
    assert!(bench.acts().is_empty());
    let none = Snapshot::new("nas".to_owned(), bench.now, 10.0, false);
    let world = World {
        config: &bench.config,
        snapshot: &none,
        others: &[],
        zone: &bench.zone,
        now: bench.now,
        up: CALM,
    };
    let (view, acts) = decide(&world, &mut bench.memory);
    assert!(view.jobs.is_empty() && acts.is_empty() && view.notes.len() == 1);
}

#[test]
fn a_resilver_a_sick_pool_and_a_neighbour_go_first() {
    let mut bench = due();
    bench.pools[0].scan = Some(scan("resilver", "scanning", bench.now));
    assert!(bench.minutes(1).message.contains("resilvers"));
    bench.pools[0].scan = None;
    bench.pools[0].state = "SUSPENDED".to_owned();
    assert!(bench.minutes(1).message.contains("SUSPENDED"));
    assert!(bench.acts().is_empty());

    let mut bench = Bench::scrub(&["dozer", "tank"], monthly(), "2026-12-05T12:00");
    bench.minutes(1);
    bench.now = at("2026-12-06T02:01");
    bench.minutes(5);
    assert_eq!(bench.log.len(), 1);
    bench.minutes(9 * 60 + 5);
    let order: Vec<_> = bench.log.iter().map(|(_, pool, _)| pool.as_str()).collect();
    assert_eq!(order, ["dozer", "tank"], "one after the other");
}

#[test]
fn a_scrub_that_a_resilver_has_ended_is_begun_again() {
    let mut bench = due();
    bench.minutes(5);
    bench.pools[0].scan = Some(scan("resilver", "scanning", bench.now));
    bench.minutes(30);
    bench.pools[0].scan = Some(scan("resilver", "finished", bench.now));
    bench.minutes(5);
    assert_eq!(bench.acts(), [Start, Start]);
}

#[test]
fn what_people_do_is_theirs() {
    // Somebody's own scrub is not paused for a VM.
    let mut bench = due();
    bench.gaming(None);
    bench.now = at("2026-12-05T20:00");
    bench.act("tank", Start);
    bench.vm(VmState::Running);
    assert!(bench.minutes(10).message.contains("somebody else"));
    // It pauses, and hostd does not resume it.
    bench.act("tank", Pause);
    bench.vm(VmState::Off);
    assert!(bench.minutes(60).message.contains("not by hostd's schedule"));
    assert!(bench.acts().is_empty());

    // One of ours that was paused for a VM is resumed by a person: let alone.
    let mut bench = due();
    bench.gaming(None);
    bench.minutes(5);
    bench.vm(VmState::Running);
    bench.minutes(5);
    assert_eq!(bench.acts(), [Start, Pause]);
    bench.act("tank", Start);
    assert_eq!(bench.minutes(5).state, "running");
    assert!(bench.acts().is_empty());

    // The same by `hostctl pool scrub pause`: paused stays paused.
    let mut bench = due();
    bench.gaming(None);
    bench.minutes(5);
    bench.vm(VmState::Running);
    bench.minutes(5);
    bench.memory.by_hand("tank", Pause, bench.now);
    bench.vm(VmState::Off);
    assert_eq!(bench.minutes(60).state, "paused");
    assert_eq!(bench.acts(), [Start, Pause]);

    // Given up is given up, until the next date.
    let mut bench = due();
    bench.minutes(5);
    bench.act("tank", ScrubAct::Stop);
    assert_eq!(bench.minutes(60).next, Some(at("2027-01-03T02:00")));
    assert_eq!(bench.acts(), [Start]);
}

#[test]
fn a_vms_performance_and_the_schedule_do_not_fight() {
    let policy = ScrubPolicy { not_while_vm: false, ..monthly() };
    let mut bench = Bench::scrub(&["tank"], policy, "2026-12-05T12:00");
    bench.gaming(Some(Performance::default()));
    bench.minutes(1);
    bench.now = at("2026-12-06T02:01");
    bench.vm(VmState::Running);
    assert_eq!(bench.minutes(5).state, "held", "it would be paused at once");
    bench.vm(VmState::Off);
    bench.minutes(7);
    assert_eq!(bench.acts(), [Start]);
    // `performance` is first.
    let mut vm = VmView::new("gaming".parse().unwrap(), VmState::Running, bench.now, "asked");
    vm.performance = Some(PerformanceView {
        paused_scrubs: vec!["tank".to_owned()],
        ..PerformanceView::default()
    });
    bench.act("tank", Pause);
    bench.snapshot.apply(Fact::Vm(Box::new(vm)), bench.now);
    assert_eq!(bench.minutes(30).message, "paused while the VM gaming runs");
    // It lets it go on, and that is nobody's wish against ours.
    bench.vm(VmState::Off);
    bench.act("tank", Start);
    bench.minutes(10);
    assert!(bench.acts().is_empty());
    bench.vm(VmState::Running);
    bench.minutes(1);
    assert_eq!(bench.acts(), [Pause]);
}

#[test]
fn what_others_do_is_not_done_twice() {
    let mut bench = due();
    bench.others = vec![Other {
        kind: "scrub",
        object: None,
        program: "the distribution's cron job".to_owned(),
        file: "/etc/cron.d/zfsutils-linux".to_owned(),
        advice: "put a `#` before its scrub line".to_owned(),
    }];
    let job = bench.minutes(5);
    assert_eq!((job.state.as_str(), job.health), ("elsewhere", Severity::Warning));
    assert!(job.message.contains("/etc/cron.d/zfsutils-linux") && bench.acts().is_empty());
    bench.config.care.scrubs[0].even_if_elsewhere = true;
    bench.minutes(1);
    assert_eq!(bench.acts(), [Start]);
    // Nothing configured: only told.
    bench.config.care.scrubs.clear();
    let job = bench.minutes(1);
    assert_eq!((job.state.as_str(), job.health), ("elsewhere", Severity::Ok));
    bench.others.clear();
    let job = bench.minutes(1);
    assert_eq!((job.state.as_str(), job.health), ("off", Severity::Ok));
}

#[test]
fn failures_and_overdue_dates_warn() {
    let mut bench = due();
    let (_, acts) = bench.decide();
    assert_eq!(acts, [Act::Scrub { pool: "tank".to_owned(), act: Start }]);
    bench.memory.scrubbed("tank", Start, Err("no space left".to_owned()), bench.now);
    bench.pass(120);
    let (view, acts) = bench.decide();
    assert!(acts.is_empty() && view.jobs[0].message.contains("no space left"), "{view:?}");
    assert_eq!(view.jobs[0].health, Severity::Warning);
    bench.pass(600);
    assert_eq!(bench.decide().1.len(), 1, "tried again");
    bench.gaming(None);
    bench.vm(VmState::Running);
    bench.pass(8 * 86_400);
    let (view, _) = bench.decide();
    assert_eq!((view.jobs[0].state.as_str(), view.jobs[0].health), ("held", Severity::Warning));
    assert!(view.jobs[0].message.starts_with("overdue since 2026-12-06 02:00"), "{view:?}");
}

#[test]
fn a_pool_that_is_not_there_is_told() {
    let policy = ScrubPolicy { pool: Some("gone".to_owned()), ..monthly() };
    let mut bench = Bench::scrub(&["tank"], policy, "2026-12-05T12:00");
    let (view, acts) = bench.decide();
    let states: Vec<_> =
        view.jobs.iter().map(|job| (job.name.as_str(), job.state.as_str())).collect();
    assert_eq!(states, [("scrub gone", "held"), ("scrub tank", "off")]);
    assert!(acts.is_empty());
}

#[test]
fn a_clock_that_goes_back_neither_starts_nor_blocks_for_ever() {
    let mut bench = due();
    bench.minutes(5);
    bench.pass(10 * 3600);
    bench.minutes(1);
    bench.acts();
    bench.now = at("2026-11-01T02:05");
    bench.booted = at("2026-10-01T00:00");
    let job = bench.minutes(30);
    assert_eq!(job.state, "waiting", "{job:?}");
    assert!(bench.acts().is_empty());
}

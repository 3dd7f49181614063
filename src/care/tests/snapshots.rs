//! Snapshots through months, and what is never destroyed.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::care::memory::Kept;
use crate::care::prune::{choose, confirm, count, forget};

fn bench(now: &str) -> Bench {
    let care = Care { snapshots: vec![hourly("tank/home")], ..Care::default() };
    Bench::new(&["tank"], care, at(now))
}

/// Does what is decided to `there`: full names with their mark.
fn round(bench: &mut Bench, there: &mut BTreeSet<(String, String)>) -> JobView {
    let (mut view, acts) = bench.decide();
    for act in acts {
        match act {
            Act::Scrub { .. } => {}
            Act::Make { dataset, tag, .. } => {
                bench.memory.making(&dataset, tag);
                for below in ["", "/ann"] {
                    let name = format!("{dataset}{below}@{tag}");
                    assert!(there.insert((name, tag.kind.as_str().to_owned())), "{tag} again");
                }
                bench.memory.made(&dataset, tag, Ok(()), false, bench.now);
            }
            Act::Prune { dataset, .. } => {
                let marked: Vec<_> = there.iter().cloned().collect();
                let policy = &bench.config.care.snapshots[0];
                let kept = bench.memory.snapshots.get_mut(&dataset).unwrap();
                let chosen = choose(policy, kept, &marked, bench.now);
                there.retain(|(name, _)| !chosen.destroy.contains(name));
                forget(kept, &marked, bench.now);
                kept.pruned = Some(bench.now);
            }
        }
    }
    view.jobs.remove(view.jobs.iter().position(|job| job.kind == "snapshots").unwrap())
}

#[test]
fn half_a_year_keeps_what_it_should_across_changes_of_the_clock() {
    let mut bench = bench("2026-02-10T09:20");
    let mut there = BTreeSet::new();
    let foreign = ("tank/home@hostd-auto-daily-2026-02-01T0000Z".to_owned(), "daily".to_owned());
    there.insert(foreign.clone());
    while bench.now < at("2026-08-10T09:20") {
        round(&mut bench, &mut there);
        bench.pass(20 * 60);
        if bench.now == at("2026-05-01T09:20") {
            // Off for four days.
            bench.pass(4 * 86_400);
            bench.reboot();
        }
    }
    let job = round(&mut bench, &mut there);
    assert_eq!((job.state.as_str(), job.health), ("waiting", Severity::Ok), "{job:?}");
    assert!(there.remove(&foreign), "it bears the name and the mark, and hostd did not make it");
    for (kind, want) in [("hourly", 24), ("daily", 7), ("weekly", 4), ("monthly", 3)] {
        let have = |below: &str| {
            let begins = format!("tank/home{below}@hostd-auto-{kind}-");
            there.iter().filter(|(name, _)| name.starts_with(&begins)).count()
        };
        assert_eq!((have(""), have("/ann")), (want, want), "{kind}");
    }
    let kept = &bench.memory.snapshots["tank/home"];
    // Those that were destroyed at last are forgotten at the next pruning.
    assert!(kept.made.len() <= 24 + 7 + 4 + 3 + 4 && kept.maybe.is_empty(), "{}", kept.made.len());
    // At midnight by the wall, on both sides of the change.
    let monthly = kept.made.iter().filter(|tag| tag.kind == Kind::Monthly).max().unwrap();
    assert_eq!(monthly.at(), at("2026-08-01T00:00"));
}

#[test]
fn a_wrong_clock_makes_and_destroys_nothing() {
    let mut bench = bench("2026-02-10T09:20");
    let mut there = BTreeSet::new();
    for _ in 0..400 {
        round(&mut bench, &mut there);
        bench.pass(1800);
    }
    let before = there.clone();
    bench.now = at("1999-01-01T00:00");
    let job = round(&mut bench, &mut there);
    assert_eq!((job.state.as_str(), job.health), ("held", Severity::Warning));
    assert!(job.message.contains("the clock stands before"), "{job:?}");
    assert_eq!(there, before);
    // One that is far ahead makes one of each kind, and takes no more away.
    bench.now = at("2033-01-01T00:00");
    round(&mut bench, &mut there);
    round(&mut bench, &mut there);
    assert!(there.len() >= before.len() && before.difference(&there).count() <= 2 * 4);
    // Chosen with a clock that has gone back between: nothing.
    let kept = &bench.memory.snapshots["tank/home"];
    let marked: Vec<_> = there.iter().cloned().collect();
    let chosen = choose(&bench.config.care.snapshots[0], kept, &marked, at("1999-01-01T00:00"));
    assert!(chosen.destroy.is_empty() && chosen.hold.is_some());
}

#[test]
fn failures_are_told_and_not_hurried() {
    let mut bench = bench("2026-02-10T09:20");
    let (_, acts) = bench.decide();
    assert_eq!(acts.len(), 4, "one of each kind");
    let Act::Make { tag, .. } = acts[0].clone() else { panic!() };
    bench.memory.making("tank/home", tag);
    bench.memory.made("tank/home", tag, Err("dataset does not exist".into()), true, bench.now);
    bench.pass(60);
    let (view, acts) = bench.decide();
    assert!(acts.is_empty());
    let job = view.jobs.iter().find(|job| job.kind == "snapshots").unwrap();
    assert!(job.message.contains("dataset does not exist") && job.health == Severity::Warning);
    assert!(bench.memory.snapshots["tank/home"].maybe.is_empty());
    bench.pass(600);
    assert_eq!(bench.decide().1.len(), 4);
    bench.pools[0].state = "SUSPENDED".to_owned();
    let (view, acts) = bench.decide();
    assert!(acts.is_empty() && view.jobs.iter().any(|job| job.message.contains("SUSPENDED")));
}

#[test]
fn sanoid_is_not_doubled_and_what_is_left_of_a_policy_is_told() {
    let mut bench = bench("2026-02-10T09:20");
    let sanoid = |object: &str| Other {
        kind: "snapshots",
        object: Some(object.to_owned()),
        program: "sanoid".to_owned(),
        file: "/etc/sanoid/sanoid.conf".to_owned(),
        advice: "remove its section there".to_owned(),
    };
    // Above it, the same, and below it, for it is recursive.
    for object in ["tank", "tank/home", "tank/home/ann"] {
        bench.others = vec![sanoid(object)];
        let (view, acts) = bench.decide();
        assert!(acts.is_empty(), "{object}");
        let job = view.jobs.iter().find(|job| job.object == "tank/home").unwrap();
        assert_eq!((job.state.as_str(), job.health), ("elsewhere", Severity::Warning));
    }
    bench.others = vec![sanoid("tank/other")];
    let (view, acts) = bench.decide();
    assert_eq!(acts.len(), 4);
    let other = view.jobs.iter().find(|job| job.object == "tank/other").unwrap();
    assert_eq!((other.state.as_str(), other.health), ("elsewhere", Severity::Ok));
    let tag = Tag::new(Kind::Daily, bench.now).unwrap();
    bench.memory.made("tank/home", tag, Ok(()), false, bench.now);
    bench.config.care.snapshots.clear();
    let (view, acts) = bench.decide();
    let job = view.jobs.iter().find(|job| job.object == "tank/home").unwrap();
    assert!(
        acts.is_empty() && job.state == "off" && job.message.contains("1 snapshots"),
        "{job:?}"
    );
}

#[test]
fn what_zfs_says_last_decides() {
    let now = at("2026-02-10T09:20");
    let tag = Tag::new(Kind::Daily, now).unwrap();
    let name = format!("tank/home@{tag}");
    let soon = Some(now.plus(Duration::from_secs(3)));
    assert_eq!(confirm(&name, soon, Some("daily"), Some(0)), Ok(()));
    for (created, mark, holds) in [
        (None, Some("daily"), Some(0)),
        (Some(now.plus(Duration::from_secs(7200))), Some("daily"), Some(0)),
        (Some(Timestamp::from_secs(now.secs() - 120)), Some("daily"), Some(0)),
        (soon, None, Some(0)),
        (soon, Some("hourly"), Some(0)),
        (soon, Some("daily"), Some(1)),
        (soon, Some("daily"), None),
    ] {
        assert!(confirm(&name, created, mark, holds).is_err());
    }
    assert!(confirm("tank/home@before-update", soon, Some("daily"), Some(0)).is_err());
}

fn tags() -> impl Strategy<Value = Tag> {
    (0..4usize, 0i64..60).prop_map(|(kind, day)| {
        let now = Timestamp::from_secs(1_795_000_000 + day * 43_200);
        Tag::new(Kind::ALL[kind], now).unwrap()
    })
}

fn names() -> impl Strategy<Value = (String, String)> {
    let dataset = prop_oneof![
        Just("tank/home"),
        Just("tank/home/ann"),
        Just("tank/homes"),
        Just("tank"),
        Just("dozer/home"),
    ];
    let tag = prop_oneof![
        4 => tags().prop_map(|tag| tag.to_string()),
        1 => "hostd-auto-(daily|yearly)-20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{4}Z",
        1 => "[a-z@-]{0,12}",
    ];
    let mark =
        prop_oneof![Just("hourly"), Just("daily"), Just("weekly"), Just("monthly"), Just("x")];
    (dataset, tag, mark)
        .prop_map(|(dataset, tag, mark)| (format!("{dataset}@{tag}"), mark.to_owned()))
}

proptest! {
    /// Nothing is ever destroyed that hostd did not make.
    #[test]
    fn only_ours_is_ever_chosen(
        marked in prop::collection::vec(names(), 0..120),
        made in prop::collection::btree_set(tags(), 0..60),
        (recursive, hourly, daily) in (any::<bool>(), 0u32..4, 0u32..4),
        later in -30i64..90,
    ) {
        let keep = Keep { hourly, daily, weekly: 1, monthly: 0 };
        let policy = SnapshotPolicy {
            dataset: "tank/home".to_owned(), recursive, keep, even_if_elsewhere: false,
        };
        let kept = Kept { made: made.clone(), ..Kept::default() };
        let now = Timestamp::from_secs(1_795_000_000 + later * 86_400);
        let chosen = choose(&policy, &kept, &marked, now);
        let mut ours = BTreeSet::new();
        for (name, mark) in &marked {
            let (dataset, tag) = name.split_once('@').unwrap();
            let here = dataset == "tank/home" || recursive && dataset == "tank/home/ann";
            if let Ok(tag) = tag.parse::<Tag>()
                && here && made.contains(&tag) && mark == tag.kind.as_str()
            {
                ours.insert((dataset, tag));
            }
        }
        for name in &chosen.destroy {
            let (dataset, tag) = name.split_once('@').unwrap();
            let tag: Tag = tag.parse().unwrap();
            prop_assert!(ours.contains(&(dataset, tag)), "{}", name);
            prop_assert!(tag.at() <= now.plus(Duration::from_secs(120)));
            let newer = ours.iter().filter(|(at, one)| {
                *at == dataset && one.kind == tag.kind && *one > tag
            }).count();
            prop_assert!(newer >= count(keep, tag.kind).max(1), "{} is among the newest", name);
            prop_assert!(!name.contains([',', '%']) && name.matches('@').count() == 1);
        }
        // Another's memory knows none of them.
        prop_assert!(choose(&policy, &Kept::default(), &marked, now).destroy.is_empty());
    }

    #[test]
    fn tags_are_read_back_and_nothing_else_is(seconds in 0i64..250_000_000_000, kind in 0..4usize, text in "\\PC{0,40}") {
        let tag = Tag::new(Kind::ALL[kind], Timestamp::from_secs(seconds)).unwrap();
        prop_assert_eq!(tag.to_string().parse(), Ok(tag));
        prop_assert!(text.parse::<Tag>().is_err());
        // Those of VMs.
        let of_a_vm = format!("hostd-{text}").parse::<Tag>();
        prop_assert!(of_a_vm.is_err() || text.starts_with("auto-"));
    }

    #[test]
    fn any_memory_is_read_or_refused(text in "(\\{|\\}|\"scrubs\"|\"snapshots\"|:|,|\"made\"|\\[|\\]|1|\"hostd-auto-daily-2026-02-30T0000Z\"){0,20}") {
        let _ = serde_json::from_str::<Memory>(&text);
    }
}

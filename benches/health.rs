//! What looking at pools costs, on a made-up machine: 12 pools on 24 disks with
//! 500 datasets, then with 10,000, and that twice and four times as large. No
//! child is started: what `zpool` would say is at hand, and is parsed.
//!
//!   cargo bench --bench health
//!
//! Prints milliseconds on the processor, medians:
//!
//! - `quiet`: a round in which nothing has happened; there is one each second
//! - `view`: one whose view is made, passed on, joined and compared; each 10 s
//! - `read`: one in which all pools are read, parsed and judged; each 30 s
//! - `beat`: all of it told again, and the snapshot published; each 5 s
//! - `%`: what these are together, of one core
#![allow(clippy::expect_used, reason = "a benchmark makes its tree")]

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use hostd::ask::view::DependantView;
use hostd::base::Timestamp;
use hostd::config::Pools;
use hostd::host::fake::FakeHost;
use hostd::state::{Fact, Snapshot};
use hostd::zfs::Observer;
use nix::sys::resource::{UsageWho, getrusage};

const CAPTURE: &str = include_str!("../tests/fixtures/zpool/02-healthy-raidz2x5.json");
const ROUNDS: usize = 25;

/// Pools and datasets.
const SIZES: [(usize, usize); 4] = [(12, 500), (12, 10_000), (24, 20_000), (48, 40_000)];

/// The machine, and what `zpool` says of its pools.
fn machine(root: &std::path::Path, pools: usize, datasets: usize) -> std::io::Result<FakeHost> {
    let fake = FakeHost::new(root);
    let mut mounts = String::from("22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n");
    for dataset in 0..datasets {
        let pool = dataset % pools;
        let (id, name) = (dataset + 30, format!("pool{pool}/data/set{dataset}"));
        // A string takes what it is given.
        let _ = writeln!(
            mounts,
            "{id} 22 0:{id} / /{name} rw,noatime shared:{id} - zfs {name} rw,xattr,posixacl"
        );
    }
    fake.file("/proc/self/mountinfo", mounts)?;
    for pool in 0..pools {
        let name = format!("pool{pool}");
        fake.file(&format!("/proc/spl/kstat/zfs/{name}/state"), "ONLINE\n")?;
        let json = CAPTURE.replace("\"tank\"", &format!("\"{name}\""));
        // Whole words: pool1 is not pool10.
        fake.runner.on(move |command| {
            let ours = command.args.last().is_some_and(|last| last.to_str() == Some(name.as_str()));
            let status = command.args.first().is_some_and(|first| first == "status");
            ours.then(|| {
                let list = format!("{name}\t1000\t410\t590\t41\t5\tONLINE\t1\n");
                let stdout = if status { json.clone().into_bytes() } else { list.into_bytes() };
                let exit = hostd::host::run::Exit::Code(0);
                Ok(hostd::host::run::Output { exit, stdout, stderr: Vec::new() })
            })
        });
    }
    Ok(fake)
}

fn used() -> Duration {
    let all = getrusage(UsageWho::RUSAGE_SELF).expect("our own use");
    let micros = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or_default()
    };
    Duration::from_micros(micros(all.user_time()) + micros(all.system_time()))
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort_unstable();
    all.get(all.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

struct Bench {
    fake: FakeHost,
    observer: Observer,
    snapshot: Snapshot,
}

impl Bench {
    fn new(fake: FakeHost, pools: usize) -> Self {
        let now = Timestamp::from_secs(1);
        let uses = (0..50).map(|n| DependantView {
            kind: "vm".to_owned(),
            name: format!("vm{n}"),
            path: format!("/pool{}/data/set{n}/disk.qcow2", n % pools),
        });
        let snapshot = Snapshot::new("bench".to_owned(), now, 10.0, false);
        Self {
            observer: Observer::new(fake.host(), Pools::default()),
            snapshot: snapshot.with_uses(uses.collect()),
            fake,
        }
    }

    /// One round so long after the last; its time on the processor.
    async fn round(&mut self, later: Duration, poke: bool) -> (Duration, bool) {
        self.fake.clock.advance(later);
        if poke {
            self.observer.poke();
        }
        let before = used();
        let view = self.observer.news().await;
        let made = view.is_some();
        if let Some(view) = view {
            drop(self.snapshot.apply(Fact::Pools(view), Timestamp::from_secs(2)));
        }
        (used().saturating_sub(before), made)
    }
}

impl Bench {
    /// What the writer does each interval.
    fn beat(&self) -> Duration {
        let before = used();
        std::hint::black_box(self.snapshot.heartbeat(Timestamp::from_secs(3)));
        std::hint::black_box(Arc::new(self.snapshot.clone()));
        used().saturating_sub(before)
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    println!("milliseconds on the processor");
    println!(
        "{:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}   growth of each",
        "pools", "datasets", "quiet", "view", "read", "beat", "%"
    );
    let mut before: Option<[f64; 4]> = None;
    for (pools, datasets) in SIZES {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a folder");
        let fake = machine(dir.path(), pools, datasets).expect("a tree");
        let mut bench = Bench::new(fake, pools);
        let [mut quiet, mut views, mut reads, mut beats] = [const { Vec::new() }; 4];
        runtime.block_on(async {
            bench.round(Duration::from_secs(1), true).await;
            for _ in 0..ROUNDS {
                reads.push(bench.round(Duration::from_secs(2), true).await.0);
                let (took, made) = bench.round(Duration::from_secs(1), false).await;
                assert!(!made, "nothing has happened");
                quiet.push(took);
                views.push(bench.round(Duration::from_secs(10), false).await.0);
                beats.push(bench.beat());
            }
        });
        let now = [median(quiet), median(views), median(reads), median(beats)];
        let [quiet, view, read, beat] = now;
        // In half a minute.
        let percent = (30.0 * quiet + 3.0 * view + read + 6.0 * beat) / 30_000.0 * 100.0;
        let growth = before.map_or(String::new(), |old| {
            let times = now.iter().zip(old).map(|(now, old)| format!("{:.1}x", now / old));
            times.collect::<Vec<_>>().join(" ")
        });
        println!(
            "{pools:>6} {datasets:>9} {quiet:>9.2} {view:>9.2} {read:>9.2} {beat:>9.2} {percent:>7.3}   {growth}"
        );
        before = Some(now);
    }
}

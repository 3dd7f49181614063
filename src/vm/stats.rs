//! What a running VM takes of the host: its processors' time, its memory, what
//! its disks do. A [`Sample`] is read from procfs and QEMU; [`between`] two of
//! them lies a [`VmStatsView`]. What could not be read is left out, not zero.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::qmp::Qmp;
use super::qmp::wire::Command;
use crate::ask::view::{DiskStatsView, VmStatsView};
use crate::base::Timestamp;
use crate::host::Host;

/// How long QEMU may take for an answer.
const ANSWER: Duration = Duration::from_secs(3);
/// Disks of a VM that are looked at.
const DISKS: usize = 64;
/// Ticks of `/proc/PID/stat` in a second: `USER_HZ`, 100 on every x86.
const TICKS: u64 = 100;

/// What was counted up to one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// The same for people.
    pub wall: Timestamp,
    /// Processor time of all of QEMU's threads.
    pub cpu: Option<Duration>,
    /// Bytes of memory that it has, huge pages included.
    pub memory: Option<u64>,
    /// Its disks.
    pub disks: Vec<DiskSample>,
}

/// What a disk has done since QEMU was started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskSample {
    /// `disk0`.
    pub name: String,
    /// What was read.
    pub read: Count,
    /// What was written.
    pub written: Count,
    /// Flushes, without bytes.
    pub flushed: Count,
}

/// Operations of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// How many.
    pub operations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Nanoseconds that they took, all together.
    pub nanos: u64,
}

/// Reads a sample of the QEMU with this number.
pub async fn sample(host: &Host, pid: u32, qmp: Option<&Qmp>) -> Sample {
    let asked = match qmp {
        Some(qmp) => qmp.ask(Command::QueryBlockstats, ANSWER).await.ok(),
        None => None,
    };
    let text = |file: &str| host.sys.text(format!("/proc/{pid}/{file}")).ok();
    Sample {
        at: host.clock.instant(),
        wall: host.clock.now(),
        cpu: text("stat").and_then(|stat| cpu(&stat)),
        memory: text("status").and_then(|status| memory(&status)),
        disks: asked.as_ref().map(disks).unwrap_or_default(),
    }
}

/// Time in user and kernel mode, from `/proc/PID/stat` (proc(5)). The name in
/// parentheses may hold anything.
pub fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, kernel): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let ticks = user.checked_add(kernel)?;
    Some(Duration::from_millis(ticks.checked_mul(1000 / TICKS)?))
}

/// Bytes in memory, from `/proc/PID/status` (proc(5)): huge pages are counted
/// apart from the rest.
pub fn memory(status: &str) -> Option<u64> {
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    kib("VmRSS:")?.checked_add(kib("HugetlbPages:").unwrap_or(0))?.checked_mul(1024)
}

/// Reads the answer to `query-blockstats`: the disks that the guest sees.
pub fn disks(value: &Value) -> Vec<DiskSample> {
    let one = |disk: &Value| {
        let text = |key: &str| disk.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
        let device = text("qdev")?;
        let named = (!device.starts_with('/')).then(|| device.trim_end_matches("-device"));
        let name = named.or(text("device"))?;
        // The firmware's flash is no disk.
        if name.starts_with("pflash") {
            return None;
        }
        let stats = disk.get("stats")?;
        let number = |key: String| stats.get(key).and_then(Value::as_u64).unwrap_or(0);
        let count = |kind: &str| Count {
            operations: number(format!("{kind}_operations")),
            bytes: number(format!("{kind}_bytes")),
            nanos: number(format!("{kind}_total_time_ns")),
        };
        let name = name.chars().take(64).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let (read, written, flushed) = (count("rd"), count("wr"), count("flush"));
        Some(DiskSample { name, read, written, flushed })
    };
    value.as_array().into_iter().flatten().filter_map(one).take(DISKS).collect()
}

/// What happened between two samples of one QEMU with so many processors.
/// Nothing when they are too near to each other to say.
pub fn between(cpus: u32, before: &Sample, now: &Sample) -> Option<VmStatsView> {
    let span = now.at.checked_duration_since(before.at)?.as_secs_f64();
    if span < 0.1 {
        return None;
    }
    let cpu =
        || Some(now.cpu?.checked_sub(before.cpu?)?.as_secs_f64() / span / f64::from(cpus.max(1)));
    let disk = |now: &DiskSample| {
        let before = before.disks.iter().find(|disk| disk.name == now.name)?;
        let read = now.read.since(before.read)?;
        let written = now.written.since(before.written)?;
        let flushed = now.flushed.since(before.flushed)?;
        Some(DiskStatsView {
            name: now.name.clone(),
            read_bytes: read.bytes as f64 / span,
            written_bytes: written.bytes as f64 / span,
            reads: read.operations as f64 / span,
            writes: written.operations as f64 / span,
            flushes: flushed.operations as f64 / span,
            read_seconds: read.latency(),
            write_seconds: written.latency(),
            flush_seconds: flushed.latency(),
        })
    };
    Some(VmStatsView {
        time: now.wall,
        seconds: span,
        cpu: cpu(),
        memory: now.memory,
        disks: now.disks.iter().filter_map(disk).collect(),
    })
}

impl Count {
    /// Nothing when it was counted from the start again.
    fn since(self, before: Self) -> Option<Self> {
        Some(Self {
            operations: self.operations.checked_sub(before.operations)?,
            bytes: self.bytes.checked_sub(before.bytes)?,
            nanos: self.nanos.checked_sub(before.nanos)?,
        })
    }

    /// Seconds that one of them took, on average.
    fn latency(self) -> Option<f64> {
        (self.operations > 0).then(|| self.nanos as f64 / 1e9 / self.operations as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const STAT: &str = "812 (qemu) x) S 1 812 812 0 -1 4194560 9 0 0 0 1234 66 0 0 20 0 5 0 99 1 1";

    #[test]
    fn reads_what_linux_and_qemu_say() {
        assert_eq!(cpu(STAT), Some(Duration::from_secs(13)));
        assert_eq!(cpu("812 (qemu"), None);
        let status =
            "Name:\tqemu\nVmRSS:\t    2048 kB\nRssAnon:\t 1 kB\nHugetlbPages:\t    1024 kB\n";
        assert_eq!(memory(status), Some(3 << 20));
        assert_eq!(memory("Name:\tqemu\n"), None, "a process that has ended has none");
        let disks = disks(&json!([
            {"device": "disk0", "qdev": "disk0-device", "stats": {"rd_bytes": 10, "rd_operations": 2,
             "rd_total_time_ns": 5, "flush_operations": 1, "flush_total_time_ns": 3000}},
            {"device": "pflash0", "qdev": "/machine/system.flash0", "stats": {}},
            {"node-name": "#block", "stats": {}}, 7]));
        assert_eq!(disks.len(), 1);
        assert_eq!((disks[0].name.as_str(), disks[0].read.bytes), ("disk0", 10));
        assert_eq!(disks[0].flushed.latency(), Some(3e-6));
    }

    fn at(start: Instant, seconds: u64, cpu: u64, bytes: u64) -> Sample {
        let read = Count { operations: bytes / 512, bytes, nanos: bytes * 1000 };
        Sample {
            at: start + Duration::from_secs(seconds),
            wall: Timestamp::from_secs(1_700_000_000),
            cpu: Some(Duration::from_secs(cpu)),
            memory: Some(1 << 20),
            disks: vec![DiskSample { name: "disk0".into(), read, ..DiskSample::default() }],
        }
    }

    #[test]
    fn rates_are_per_second_and_per_processor() {
        let start = Instant::now();
        let (before, now) = (at(start, 0, 100, 0), at(start, 10, 110, 51_200));
        let stats = between(4, &before, &now).unwrap();
        assert_eq!((stats.cpu, stats.memory), (Some(0.25), Some(1 << 20)));
        let disk = &stats.disks[0];
        assert_eq!((disk.read_bytes, disk.reads, disk.writes), (5120.0, 10.0, 0.0));
        assert_eq!((disk.read_seconds, disk.flush_seconds), (Some(512e-6), None));
        assert_eq!(between(4, &now, &now), None, "no time has passed");
        assert_eq!(between(4, &now, &before), None);
        // Counted from the start again, or not read: left out, not zero.
        let again = at(start, 20, 1, 0);
        let stats = between(4, &now, &again).unwrap();
        assert_eq!((stats.cpu, stats.disks.len()), (None, 0));
        let unread = Sample { cpu: None, memory: None, disks: Vec::new(), ..again };
        let stats = between(4, &now, &unread).unwrap();
        assert_eq!((stats.cpu, stats.memory, stats.disks.len()), (None, None, 0));
    }

    proptest! {
        #[test]
        fn never_panics(text: String, cpus: u32, a: u64, b: u64) {
            let _ = (cpu(&text), memory(&text), cpu(&format!("1 (x) {text}")));
            let count = |n| Count { operations: n, bytes: n, nanos: n };
            let _ = count(a).since(count(b)).map(Count::latency);
            let now = Instant::now();
            let _ = between(cpus, &at(now, 0, 1, 1), &at(now, 5, 2, 2));
            let _ = disks(&json!([{"qdev": text, "stats": {"rd_bytes": a}}]));
        }
    }
}

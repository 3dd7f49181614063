//! `memory` and `swap`: `/proc/meminfo` (proc(5)), with ZFS's cache counted
//! right: Linux takes it for used, and what is above its least size (`c_min`)
//! is given back when it is wanted.

use super::look::{Look, Missed, missed};
use super::rate::percent;
use crate::base::Bytes;

/// ZFS's cache; its folder is there while its module is.
const ARC: &str = "spl/kstat/zfs/arcstats";

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What could be had without swapping, but for ZFS's cache.
    pub available: u64,
    /// Swap, all of it.
    pub swap_total: u64,
    /// Swap that is free.
    pub swap_free: u64,
}

/// Reads `/proc/meminfo`.
pub fn parse(text: &str) -> Option<Memory> {
    let mut memory = Memory::default();
    let (mut total, mut available, mut loose) = (None, None, 0u64);
    for line in text.lines() {
        let Some((key, rest)) = line.split_once(':') else { continue };
        let kib = || rest.split_ascii_whitespace().next()?.parse::<u64>().ok();
        let bytes = || kib().map(|kib| kib.saturating_mul(1024));
        match key {
            "MemTotal" => total = bytes(),
            "MemAvailable" => available = bytes(),
            // Kernels before 3.14 have nothing better.
            "MemFree" | "Buffers" | "Cached" => loose = loose.saturating_add(bytes()?),
            "SwapTotal" => memory.swap_total = bytes()?,
            "SwapFree" => memory.swap_free = bytes()?,
            _ => {}
        }
    }
    memory.total = total.filter(|total| *total > 0)?;
    memory.available = available.unwrap_or(loose).min(memory.total);
    Some(memory)
}

/// What ZFS's cache would give back.
pub fn parse_arc(text: &str) -> Option<u64> {
    let (mut size, mut least) = (None, None);
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let field = match words.next() {
            Some("size") => &mut size,
            Some("c_min") => &mut least,
            _ => continue,
        };
        *field = words.nth(1).and_then(|word| word.parse::<u64>().ok());
    }
    Some(size?.saturating_sub(least?))
}

/// One round.
pub fn round(look: &mut Look<'_>) {
    let Some(memory) = look.parsed("meminfo", ("memory", "fraction"), parse) else { return };
    let arc = match look.proc.whole(ARC, look.text, super::look::LIMIT) {
        Ok(text) => parse_arc(text).ok_or_else(|| format!("/proc/{ARC} makes no sense")),
        Err(error) => match missed(&error, look.seen.contains("arc")) {
            Missed::Note(_) => Ok(0),
            Missed::Unknown(why) => Err(format!("/proc/{ARC} {why}")),
        },
    };
    let (arc, why) = match arc {
        Ok(arc) => {
            if arc > 0 {
                look.seen.insert("arc");
            }
            (arc, String::new())
        }
        // Too much counted is told; nothing told would be worse.
        Err(why) => (0, format!("; ZFS's cache is counted as used: {why}")),
    };
    let available = memory.available.saturating_add(arc).min(memory.total);
    let used = (memory.total - available) as f64 / memory.total as f64;
    let more = match arc {
        0 => String::new(),
        arc => format!(", {} more in ZFS's cache", Bytes(arc)),
    };
    let message = format!("{} of {} used{more}{why}", percent(used), Bytes(memory.total));
    look.judged("memory", (used, "fraction"), look.config.memory, message);
    let (all, free) = (memory.swap_total, memory.swap_free.min(memory.swap_total));
    let used = if all == 0 { 0.0 } else { (all - free) as f64 / all as f64 };
    let message = match all {
        0 => "there is no swap".to_owned(),
        all => format!("{} of {} used", percent(used), Bytes(all)),
    };
    look.judged("swap", (used, "fraction"), look.config.swap, message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_used_and_what_would_be_given_back() {
        let text = "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\nCached: 10 kB\n\
                    SwapTotal: 50 kB\nSwapFree: 20 kB\nHugePages_Total:       0\n";
        let memory = parse(text).unwrap();
        assert_eq!((memory.total, memory.available), (1000 << 10, 400 << 10));
        assert_eq!((memory.swap_total, memory.swap_free), (50 << 10, 20 << 10));
        let old = parse("MemTotal: 10 kB\nMemFree: 1 kB\nBuffers: 2 kB\nCached: 3 kB\n").unwrap();
        assert_eq!(old.available, 6 << 10);
        for bad in ["", "MemTotal: 0 kB", "MemTotal: x kB", "MemTotal: 1 kB\nSwapFree: z kB"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let arc = "9 1 0x01 147 39984 1 2\nname  type data\nc_min 4 100\nc_max 4 900\nsize 4 700\n";
        assert_eq!(parse_arc(arc), Some(600));
        assert_eq!(parse_arc("size 4 7\nc_min 4 9\n"), Some(0));
        assert_eq!(parse_arc("size 4 7\n"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text: String, number: u64) {
            let _ = (parse(&text), parse_arc(&text));
            let text = format!("MemTotal: {number} kB\nMemFree: {number} kB\nCached: {number} kB\n");
            if let Some(memory) = parse(&text) {
                prop_assert!(memory.available <= memory.total);
            }
        }
    }
}

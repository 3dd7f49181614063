//! The lines of `/proc/meminfo`, `proc_meminfo(5)`, and of a node's `meminfo`, which
//! have the node's name before them.

/// The number after a name (`MemTotal:  16 kB`, `Node 1 MemTotal: 16 kB`), in bytes.
pub fn meminfo(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let rest = lines.find_map(|line| {
        let (before, rest) = line.split_once(':')?;
        (before.split(' ').next_back() == Some(name)).then_some(rest)
    })?;
    rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::meminfo;

    #[test]
    fn values_are_found_by_their_whole_names() {
        let text = "MemTotal:       32768 kB\nMemAvailable:   100 kB\nHugePages_Total: 3\n";
        assert_eq!(meminfo(text, "MemTotal"), Some(32768 << 10));
        assert_eq!((meminfo(text, "Total"), meminfo(text, "None")), (None, None));
        assert_eq!(meminfo("Node 1 MemTotal:  5 kB\n", "MemTotal"), Some(5 << 10));
        for bad in ["MemTotal: lots kB", "MemTotal: 18446744073709551615 kB", "MemTotal:", "", "a"]
        {
            assert_eq!(meminfo(bad, "MemTotal"), None, "{bad}");
        }
    }
}

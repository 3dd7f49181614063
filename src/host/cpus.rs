//! Sets of processors, in the two spellings of the kernel: lists (`0-3,8`) and
//! masks (`ff,0000000f`). See the kernel's `Documentation/core-api/printk-formats`
//! (`%*pbl`, `%*pb`).

use std::collections::BTreeSet;

/// More processors than Linux can be built for.
pub const MOST: u32 = 8192;

/// Numbers of processors.
pub type Cpus = BTreeSet<u32>;

/// Reads a list: `0-3,8`. systemd puts spaces where the kernel puts commas.
/// `None` when it is anything else.
pub fn parse_list(text: &str) -> Option<Cpus> {
    let mut cpus = Cpus::new();
    let words = text.split([',', ' ', '\n']).map(str::trim).filter(|word| !word.is_empty());
    for word in words {
        let (from, to) = word.split_once('-').unwrap_or((word, word));
        let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
        if from > to || to >= MOST {
            return None;
        }
        cpus.extend(from..=to);
    }
    Some(cpus)
}

/// Writes a list, as short as it can be.
pub fn list<'a>(cpus: impl IntoIterator<Item = &'a u32>) -> String {
    let cpus: Cpus = cpus.into_iter().copied().collect();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let word = |&(from, to): &(u32, u32)| {
        if from == to { from.to_string() } else { format!("{from}-{to}") }
    };
    runs.iter().map(word).collect::<Vec<_>>().join(",")
}

/// Reads a mask: groups of eight digits, the highest first.
pub fn parse_mask(text: &str) -> Option<Cpus> {
    let digits: String = text.trim().chars().filter(|c| *c != ',').collect();
    if digits.is_empty() || digits.len() > MOST as usize / 4 {
        return None;
    }
    let mut cpus = Cpus::new();
    for (place, digit) in (0u32..).zip(digits.chars().rev()) {
        let digit = digit.to_digit(16)?;
        cpus.extend((0..4).filter(|bit| digit >> bit & 1 == 1).map(|bit| place * 4 + bit));
    }
    Some(cpus)
}

/// Writes a mask.
pub fn mask(cpus: &Cpus) -> String {
    let groups = cpus.last().map_or(0, |last| last / 32);
    let group = |group: u32| {
        cpus.range(group * 32..group * 32 + 32).fold(0u32, |bits, cpu| bits | 1 << (cpu % 32))
    };
    let all = (0..=groups).rev().map(group);
    // The kernel takes groups without their leading zeros only at the front.
    let words = all
        .enumerate()
        .map(|(at, bits)| if at == 0 { format!("{bits:x}") } else { format!("{bits:08x}") });
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_kernel_and_systemd_write() {
        let set = |cpus: &[u32]| Some(cpus.iter().copied().collect::<Cpus>());
        assert_eq!(parse_list("0-2,8\n"), set(&[0, 1, 2, 8]));
        assert_eq!(parse_list("0-1 5"), set(&[0, 1, 5]));
        assert_eq!(parse_list(""), set(&[]));
        assert_eq!(parse_mask("1,0000000f"), set(&[0, 1, 2, 3, 32]));
        for bad in ["a", "3-1", "-1", "0-99999999", "1--2"] {
            assert_eq!(parse_list(bad), None, "{bad}");
        }
        for bad in ["", "xyz", &"f".repeat(4000)] {
            assert_eq!(parse_mask(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(cpus in prop::collection::btree_set(0u32..300, 0..40)) {
            prop_assert_eq!(parse_list(&list(&cpus)), Some(cpus.clone()));
            prop_assert_eq!(parse_mask(&mask(&cpus)), Some(cpus));
        }

        #[test]
        fn nothing_panics(text in ".{0,60}") {
            let _ = (parse_list(&text), parse_mask(&text));
        }
    }
}

//! The two cheap sources: the kstat `state`, and a line of
//! `zpool list -Hp -o name,size,alloc,free,capacity,frag,health,guid`. Pure.

use super::fields::{clean, count};

/// The columns asked of `zpool list`; every version knows them, and `-H` has
/// been the same in all.
pub const COLUMNS: &str = "name,size,alloc,free,capacity,frag,health,guid";

/// The same with what 2.3 and later can say besides, which is the version that
/// speaks JSON.
pub const COLUMNS_NEW: &str = "name,size,alloc,free,capacity,frag,health,guid,dedup_table_size,\
                               dedup_table_quota,feature@encryption";

/// How full a pool is. `-` (a pool that is not open) is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Usage {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: Option<u64>,
    /// Bytes in use.
    pub alloc: Option<u64>,
    /// Percent in use, rounded down by ZFS.
    pub percent: Option<u64>,
    /// Percent of the free space that is in small pieces.
    pub fragmentation: Option<u64>,
    /// The pool's state.
    pub health: String,
    /// The pool's guid.
    pub guid: Option<u64>,
    /// Bytes of its deduplication tables.
    pub dedup_size: Option<u64>,
    /// Bytes that these may have; none for `none` and `auto`.
    pub dedup_quota: Option<u64>,
    /// Whether it has encrypted datasets; false when that was not said.
    pub encrypted: bool,
}

impl Usage {
    /// Used fraction 0–1, from the exact sizes where they are known.
    pub fn fraction(&self) -> Option<f64> {
        let percent = self.percent.map(|percent| percent.min(100) as f64 / 100.0);
        fraction(self.size, self.alloc).or(percent)
    }
}

/// `alloc` of `size`; `None` without a size.
pub fn fraction(size: Option<u64>, alloc: Option<u64>) -> Option<f64> {
    let size = size.filter(|size| *size > 0)?;
    Some((alloc? as f64 / size as f64).min(1.0))
}

/// The line about `pool` in the output of `zpool list`; `None` when there is
/// none of the right shape.
pub fn parse_list(text: &str, pool: &str) -> Option<Usage> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split('\t').take(12).collect();
        let [name, size, alloc, _free, percent, fragmentation, health, guid, more @ ..] =
            fields.as_slice()
        else {
            return None;
        };
        let (dedup_size, dedup_quota, encryption) = match more {
            [] => ("-", "-", "-"),
            [size, quota, encryption] => (*size, *quota, *encryption),
            _ => return None,
        };
        // Old versions print the percent sign in spite of -p.
        let number = |text: &str| count(text.trim_end_matches('%'));
        (*name == pool).then(|| Usage {
            name: clean(name),
            size: number(size),
            alloc: number(alloc),
            percent: number(percent),
            fragmentation: number(fragmentation),
            health: clean(health),
            guid: number(guid),
            dedup_size: number(dedup_size),
            dedup_quota: number(dedup_quota),
            encrypted: encryption == "active",
        })
    })
}

/// The word in a kstat `state`: `ONLINE`, `DEGRADED`, `SUSPENDED`, …. A copy
/// with the pool's name before it is taken too. `None` for anything else.
pub fn parse_kstat(text: &str) -> Option<String> {
    let word = text.split_whitespace().next_back()?;
    let good = word.len() <= 32 && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    good.then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_line_and_dashes() {
        let text = "other\t1\t1\t1\t1\t1\tONLINE\t1\n\
                    my pool\t1207959552\t369858048\t838101504\t30\t5\tDEGRADED\t10044224727666098230\n\
                    gone\t-\t-\t-\t-\t-\tFAULTED\t2\n";
        let usage = parse_list(text, "my pool").unwrap();
        assert_eq!(usage.guid, Some(10_044_224_727_666_098_230));
        assert!((usage.fraction().unwrap() - 0.306).abs() < 0.001);
        assert_eq!(parse_list(text, "gone").unwrap().fraction(), None);
        assert_eq!(parse_list(text, "tank"), None);
        assert_eq!(parse_list("tank\t1G\t30%\n", "tank"), None);
        let old = parse_list("t\t-\t-\t-\t30%\t5%\tONLINE\t2\n", "t").unwrap();
        assert_eq!(old.fraction(), Some(0.3));
        let new = "t\t9\t1\t8\t1\t5\tONLINE\t2\t4096\tauto\tactive\n";
        let new = parse_list(new, "t").unwrap();
        assert_eq!((new.dedup_size, new.dedup_quota, new.encrypted), (Some(4096), None, true));
        assert_eq!(parse_list("t\t9\t1\t8\t1\t5\tONLINE\t2\t4096\n", "t"), None);
    }

    #[test]
    fn reads_the_captured_kstats() {
        assert_eq!(parse_kstat("ONLINE\n").as_deref(), Some("ONLINE"));
        let captured = include_str!("../../tests/fixtures/zpool/05-resilver-replacing.kstat");
        assert_eq!(parse_kstat(captured).as_deref(), Some("DEGRADED"));
        for bad in ["", "\n", "online", "ONLINE\u{1b}"] {
            assert_eq!(parse_kstat(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\t\n]{0,80}") {
            let _ = (parse_list(&text, "tank"), parse_kstat(&text));
        }
    }
}

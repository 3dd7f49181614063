//! Which encryption keys are not loaded:
//! `zfs list -Hp -t filesystem,volume -o name,encryptionroot,keystatus`. Pure.

use std::collections::BTreeMap;

use super::fields::clean;

/// The columns asked of `zfs list`; 0.8 and later know them.
pub const COLUMNS: &str = "name,encryptionroot,keystatus";
/// The most encryption roots told by name.
const MAX_TOLD: usize = 16;

/// Keys that are not loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    /// Encryption roots, and how many datasets wait for the key of each.
    pub locked: BTreeMap<String, usize>,
    /// Roots beyond those told by name.
    pub more: usize,
}

/// Reads the listing; a line of another shape makes it unreadable, because a
/// missing key must not look like a loaded one.
pub fn parse(text: &str) -> Result<Keys, String> {
    let mut roots: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let fields: Vec<&str> = line.split('\t').take(4).collect();
        let [_, root, status] = fields.as_slice() else {
            return Err(format!("`zfs list` says {:?}", clean(line)));
        };
        match *status {
            "unavailable" => *roots.entry(root).or_default() += 1,
            "available" | "none" | "-" => {}
            other => return Err(format!("`zfs list` says {:?} of a key", clean(other))),
        }
    }
    let more = roots.len().saturating_sub(MAX_TOLD);
    let locked = roots.into_iter().take(MAX_TOLD).map(|(root, count)| (clean(root), count));
    Ok(Keys { locked: locked.collect(), more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_datasets_by_their_root() {
        let text = "tank\t-\t-\ntank/open\ttank/open\tavailable\ntank/a\ttank/a\tunavailable\n\
                    tank/a/b\ttank/a\tunavailable\ntank/c\ttank/c\tunavailable\n";
        let keys = parse(text).unwrap();
        let locked: Vec<_> = keys.locked.iter().map(|(root, n)| (root.as_str(), *n)).collect();
        assert_eq!((locked, keys.more), (vec![("tank/a", 2), ("tank/c", 1)], 0));
        assert_eq!(parse(""), Ok(Keys::default()));
        assert!(parse("tank\t-\n").is_err() && parse("tank\t-\tlost\n").is_err());
        let many = (0..20).map(|n| format!("t/{n}\tt/{n}\tunavailable\n"));
        let many = many.collect::<Vec<_>>().concat();
        let keys = parse(&many).unwrap();
        assert_eq!((keys.locked.len(), keys.more), (16, 4));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\t\n]{0,200}") {
            let _ = parse(&text);
        }
    }
}

//! Every capture, in both forms, tolerates what the table in its README says.

use super::judged;

/// A capture, its two forms, and what each normal, special and dedup vdev
/// tolerates, in the order of the text.
type Row = (&'static str, [&'static str; 2], &'static [u32]);

macro_rules! rows {
    ($($name:literal: $vdevs:expr,)*) => {
        const ROWS: &[Row] = &[$((
            $name,
            [
                include_str!(concat!("../../../tests/fixtures/zpool/", $name, ".json")),
                include_str!(concat!("../../../tests/fixtures/zpool/", $name, ".txt")),
            ],
            &$vdevs,
        ),)*];
    };
}

rows! {
    "02-healthy-raidz2x5": [2],
    "05-resilver-replacing": [0],
    "11-spare-inuse": [2, 0],
    "20-stripe": [0, 0],
    "21-single": [0],
    "22-mirror3": [2],
    "23-two-mirrors": [1, 1],
    "24-raidz1": [1],
    "25-raidz3": [3],
    "26-all-classes": [2, 1, 1],
    "27-log-and-cache-lost": [2, 1, 1],
    "28-special-degraded": [2, 1, 0],
    "29-single-special-and-dedup": [2, 0, 0],
    "30-features-off": [1],
    "31-odd-names": [2],
    "32-draid2": [2],
    "33-draid2-faulted": [1],
    "34-draid2-spare-rebuild": [1],
    "35-draid2-spare-in-use": [2],
    "36-offline": [0],
    "37-online-again-0": [0],
    "38-online-again-middle": [0],
    "39-online-again-done": [1],
    "40-faulted": [1],
    "41-two-faulted": [0],
    "42-wiped": [1],
    "43-wiped-and-missing": [0],
    "44-mirror-degraded": [0],
    "45-checksum-errors": [2],
    "46-checksum-errors-two": [2],
    "47-data-errors": [1],
    "48-data-errors-listed": [1],
    "49-replace-whole-0": [2],
    "50-replace-whole-middle": [2],
    "51-replace-whole-second-lost": [1],
    "52-replace-whole-done": [1],
    "53-replace-faulted-0": [1],
    "54-replace-faulted-middle": [1],
    "55-replace-faulted-second-lost": [0],
    "56-replace-deferred": [0],
    "57-replace-faulted-done": [2],
    "58-spare-resilver-0": [1],
    "59-spare-resilver-middle": [1],
    "60-spare-in-use": [2],
    "61-spare-kept": [2],
    "62-attach-0": [0],
    "63-attach-middle": [0],
    "64-attach-done": [1],
    "65-rebuild": [0],
    "66-rebuild-done": [1],
    "67-scrub-0": [1],
    "68-scrub-middle": [1],
    "69-scrub-paused": [1],
    "70-scrub-cancelled": [1],
    "71-scrub-done": [1],
    "72-vdev-removed": [1, 1],
    "73-checkpoint": [1, 1],
    "74-initialize": [1, 1],
    "75-trim": [1, 1],
    "76-raidz-expand": [1],
    "77-raidz-expand-done": [1],
    "78-hostid": [1],
    "79-suspended-wait": [0],
    "80-suspended-continue": [0],
    "81-suspended-cleared": [1],
    "82-io-errors": [0],
    "84-disks": [2],
    "85-disk-pulled": [1],
    "86-disk-gone-at-import": [1],
    "87-draid1-rebuild": [0],
    "88-draid1-rebuild-done": [1],
}

#[test]
fn every_capture_tolerates_what_its_table_says() {
    for (name, forms, expected) in ROWS {
        for form in forms {
            let pool = judged(form);
            let essential = ["normal", "special", "dedup"];
            let tops = pool.vdevs.iter().filter(|v| essential.contains(&v.class.as_str()));
            let tops: Vec<_> = tops.map(|v| v.tolerates).collect();
            let expected: Vec<_> = expected.iter().copied().map(Some).collect();
            assert_eq!(tops, expected, "{name}: {pool:#?}");
            assert_eq!(pool.tolerates, expected.iter().flatten().min().copied(), "{name}");
        }
    }
}

#[test]
fn the_table_is_that_of_the_readme() {
    let readme = include_str!("../../../tests/fixtures/zpool/README.md");
    let told: Vec<(String, String)> = readme
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
            Some((cells.next()?.to_owned(), cells.last()?.to_owned()))
        })
        .collect();
    let ours: Vec<(String, String)> = ROWS
        .iter()
        .map(|(name, _, vdevs)| {
            let least = vdevs.iter().min().map_or(String::new(), u32::to_string);
            let all: Vec<_> = vdevs.iter().map(u32::to_string).collect();
            let several =
                if vdevs.len() > 1 { format!(" ({})", all.join(", ")) } else { String::new() };
            ((*name).to_owned(), least + &several)
        })
        .collect();
    assert_eq!(told, ours);
}

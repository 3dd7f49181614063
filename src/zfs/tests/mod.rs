//! Tests of the room: the captures, each rule of redundancy, each row of the
//! table of conditions, hostile input, the observer.

mod captures;
mod conditions;
mod hostile;
mod observer;
mod parsing;
mod redundancy;
mod remembering;
mod tolerances;

use crate::ask::view::{FindingView, PoolView};
use crate::base::Severity;
use crate::zfs::judge_capture;

pub const HEALTHY: &str = include_str!("../../../tests/fixtures/zpool/02-healthy-raidz2x5.json");
pub const HEALTHY_TEXT: &str =
    include_str!("../../../tests/fixtures/zpool/02-healthy-raidz2x5.txt");
pub const REPLACING: &str =
    include_str!("../../../tests/fixtures/zpool/05-resilver-replacing.json");
pub const REPLACING_TEXT: &str =
    include_str!("../../../tests/fixtures/zpool/05-resilver-replacing.txt");
pub const SPARE: &str = include_str!("../../../tests/fixtures/zpool/11-spare-inuse.json");
pub const SPARE_TEXT: &str = include_str!("../../../tests/fixtures/zpool/11-spare-inuse.txt");

/// The text of a pool `tank` whose table has these rows, each a name and
/// state, and perhaps counters and notes; indented by two from the top level.
pub fn text(state: &str, head: &str, rows: &[&str]) -> String {
    let mut rows_text = Vec::new();
    let mut spares = false;
    for row in rows {
        let indent = row.len() - row.trim_start().len();
        let mut words = row.trim().splitn(3, ' ');
        let (name, state) = (words.next().unwrap(), words.next());
        let name = format!("{}{name}", " ".repeat(indent));
        let Some(state) = state else {
            rows_text.push(format!("\t{name}\t\n"));
            spares = name == "spares";
            continue;
        };
        let counters = if spares { "" } else { " 0 0 0" };
        let rest = words.next().map_or(counters.to_owned(), |rest| {
            let numbers = rest.starts_with(|c: char| c.is_ascii_digit());
            if numbers { format!(" {rest}") } else { format!("{counters}  {rest}") }
        });
        rows_text.push(format!("\t{name:<30}  {state:<8}{rest}\n"));
    }
    format!(
        "  pool: tank\n state: {state}\n{head}config:\n\n\
         \t{:<30}  {:<8} {:>5} {:>5} {:>5}\n\
         \t{:<30}  {state:<8}     0     0     0\n{}\nerrors: No known data errors\n",
        "NAME",
        "STATE",
        "READ",
        "WRITE",
        "CKSUM",
        "tank",
        rows_text.concat()
    )
}

/// The only pool of a capture.
pub fn judged(text: &str) -> PoolView {
    let mut view = judge_capture(text);
    assert_eq!(view.pools.len(), 1, "{view:?}");
    view.pools.remove(0)
}

/// The finding with this code.
pub fn found<'a>(pool: &'a PoolView, code: &str) -> &'a FindingView {
    let mut found = pool.findings.iter().filter(|finding| finding.code == code);
    let first = found.next().unwrap_or_else(|| panic!("no {code} in {:#?}", pool.findings));
    assert!(found.next().is_none(), "{code} twice in {:#?}", pool.findings);
    first
}

/// Severities and codes, worst first.
pub fn codes(pool: &PoolView) -> Vec<(Severity, &str)> {
    pool.findings.iter().map(|finding| (finding.severity, finding.code.as_str())).collect()
}

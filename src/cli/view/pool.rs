//! `hostctl pool list`, `pool status`.

use std::fmt::Write;
use std::time::Duration;

use super::table::{cell, indent, table};
use super::{Look, paint, printable};
use crate::ask::view::{
    DependantView, FindingView, PoolView, PoolsView, ScanView, VdevDiskView, VdevView,
};
use crate::base::span;

const MIB: f64 = 1_048_576.0;

fn percent(fraction: f64) -> String {
    format!("{:.0}%", fraction * 100.0)
}

fn capacity(pool: &PoolView) -> String {
    pool.capacity.map_or_else(|| "-".to_owned(), percent)
}

/// How full it is, and when it will be.
fn used(pool: &PoolView, look: Look) -> String {
    let full = pool.fills.map(|at| span::show(at.since(look.now)));
    capacity(pool) + &full.map_or(String::new(), |left| format!(", full in {left} at this pace"))
}

fn errors(count: u64) -> String {
    match count {
        0 => "no errors".to_owned(),
        1 => "1 error".to_owned(),
        more => format!("{more} errors"),
    }
}

fn tolerates(failures: Option<u32>) -> String {
    match failures {
        None => "-".to_owned(),
        Some(0) => "no failure".to_owned(),
        Some(1) => "1 failure".to_owned(),
        Some(more) => format!("{more} failures"),
    }
}

fn notes(view: &PoolsView) -> String {
    view.notes.iter().fold(String::new(), |text, note| text + &printable(note) + "\n")
}

fn empty(view: &PoolsView) -> Option<String> {
    view.pools.is_empty().then(|| match notes(view) {
        notes if notes.is_empty() => "no pools\n".to_owned(),
        notes => notes,
    })
}

pub fn list(view: &PoolsView, look: Look) -> String {
    if let Some(nothing) = empty(view) {
        return nothing;
    }
    let rows = view.pools.iter().map(|pool| {
        [
            cell(&pool.name),
            paint::word(pool.health),
            cell(&pool.state),
            tolerates(pool.tolerates),
            capacity(pool),
            cell(pool.findings.first().map_or("", |finding| finding.message.as_str())),
        ]
    });
    let heads = ["POOL", "HEALTH", "STATE", "TOLERATES", "USED", "WORST FINDING"];
    table(heads, rows, look) + "\n" + &notes(view)
}

pub fn show(view: &PoolsView, look: Look) -> String {
    if let Some(nothing) = empty(view) {
        return nothing;
    }
    let pools: Vec<_> = view.pools.iter().map(|pool| one(pool, look)).collect();
    let notes = notes(view);
    pools.join("\n") + if notes.is_empty() { "" } else { "\n" } + &notes
}

fn one(pool: &PoolView, look: Look) -> String {
    let mut text = format!(
        "{}  {}  {}\n",
        printable(&pool.name),
        paint::word(pool.health),
        paint::mark(pool.health, &pool.state)
    );
    let scan = pool.scan.as_ref().map_or_else(|| "none known".to_owned(), |s| scan(s, look));
    let left = match pool.tolerates {
        None => "not known".to_owned(),
        Some(0) => "no more failures".to_owned(),
        Some(1) => "1 more failure".to_owned(),
        Some(more) => format!("{more} more failures"),
    };
    // A string takes what it is given.
    let _ = writeln!(
        text,
        "  tolerates  {left}\n  used       {}\n  scan       {scan}",
        used(pool, look)
    );
    if let Some(scrubbed) = &pool.scrubbed {
        let (age, errors) = (look.age(scrubbed.ended), errors(scrubbed.errors));
        let _ = writeln!(text, "  scrubbed   {age} ago, {errors}");
    }
    for (nth, line) in on_it(pool).iter().enumerate() {
        let head = if nth == 0 { "on it" } else { "" };
        let _ = writeln!(text, "  {head:<9}  {}", printable(line));
    }
    for finding in &pool.findings {
        text.push('\n');
        text.push_str(&indent(&self::finding(finding), 2));
    }
    if !pool.vdevs.is_empty() {
        let mut rows = Vec::new();
        for vdev in &pool.vdevs {
            tree(&mut rows, vdev, 0);
        }
        let heads = ["VDEV", "STATE", "READ", "WRITE", "CKSUM", "TOLERATES", "DISK"];
        let inner = Look { width: look.width.map(|width| width.saturating_sub(2)), ..look };
        text.push('\n');
        text.push_str(&indent(&table(heads, rows, inner), 2));
    }
    text
}

/// How many dependants are listed one by one.
const LISTED: usize = 12;

/// What stops with the pool, a line each.
fn on_it(pool: &PoolView) -> Vec<String> {
    let kind = |one: &DependantView| match one.kind.as_str() {
        "vm" => "VM".to_owned(),
        other => other.to_owned(),
    };
    let line = |one: &DependantView| format!("{} {} ({})", kind(one), one.name, one.path);
    let mut lines: Vec<String> = pool.dependants.iter().take(LISTED).map(line).collect();
    if let Some(more) = pool.dependants.len().checked_sub(LISTED).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    match pool.mounts.len() {
        0 => {}
        1 => lines.push("1 mounted dataset".to_owned()),
        many => lines.push(format!("{many} mounted datasets")),
    }
    lines
}

fn finding(finding: &FindingView) -> String {
    let mut text = format!(
        "{}  {}: {}  [{}]\n",
        paint::word(finding.severity),
        printable(&finding.object),
        printable(&finding.message),
        printable(&finding.code)
    );
    text.push_str(&indent(&printable(&finding.advice), 2));
    text
}

fn scan(scan: &ScanView, look: Look) -> String {
    let mut text = printable(&format!("{} {}", scan.function, scan.state));
    if let Some(progress) = scan.progress.filter(|_| scan.ended.is_none()) {
        let _ = write!(text, ", {} done", percent(progress));
    }
    match (scan.started, scan.ended) {
        (_, Some(ended)) => {
            let _ = write!(text, " {} ago", look.age(ended));
        }
        (Some(started), None) => {
            let _ = write!(text, ", began {} ago", look.age(started));
        }
        (None, None) => {}
    }
    if let Some(left) = scan.left.filter(|_| scan.ended.is_none()) {
        let rate = scan.rate.map_or(String::new(), |rate| format!(" at {:.0} MiB/s", rate / MIB));
        let _ = write!(text, ", about {} left{rate}", span::show(Duration::from_secs(left)));
    }
    text + ", " + &errors(scan.errors)
}

/// Where a person finds it: `sdc, slot 3, serial ZA1`.
fn disk(disk: &VdevDiskView) -> String {
    let known = [("", &disk.name), ("", &disk.slot), ("serial ", &disk.serial)];
    let known = known.iter().filter(|(_, text)| !text.is_empty());
    cell(&known.map(|(what, text)| format!("{what}{text}")).collect::<Vec<_>>().join(", "))
}

/// Deeper trees than ZFS makes are not followed.
const DEPTH: usize = 16;

fn tree(rows: &mut Vec<[String; 7]>, vdev: &VdevView, depth: usize) {
    let class = match vdev.class.as_str() {
        "normal" | "" => String::new(),
        other => format!(" ({other})"),
    };
    rows.push([
        cell(&format!("{}{}{class}", "  ".repeat(depth), vdev.name)),
        cell(&vdev.state),
        vdev.read_errors.to_string(),
        vdev.write_errors.to_string(),
        vdev.checksum_errors.to_string(),
        vdev.tolerates.map_or_else(String::new, |_| tolerates(vdev.tolerates)),
        vdev.disk.as_ref().filter(|_| vdev.children.is_empty()).map_or_else(String::new, disk),
    ]);
    if depth < DEPTH {
        for child in &vdev.children {
            tree(rows, child, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::PoolsView;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn pools() {
        let reply = Reply::Pools(samples::pools());
        insta::assert_snapshot!("pool_list", shown(&reply, Detail::List));
        insta::assert_snapshot!("pool_status", shown(&reply, Detail::Full));
    }

    #[test]
    fn none_is_not_the_same_as_not_readable() {
        let mut view = PoolsView::default();
        assert_eq!(shown(&Reply::Pools(view.clone()), Detail::Full), "no pools\n");
        view.notes.push("zpool is not installed".into());
        assert_eq!(shown(&Reply::Pools(view), Detail::List), "zpool is not installed\n");
    }
}

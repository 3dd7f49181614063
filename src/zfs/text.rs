//! `zpool status -pP` (all versions; the only form before 2.3) to [`Pool`]s. Pure.
//!
//! Facts: a pool is a list of `key: value` sections, whose further lines begin
//! with a tab; `config:` is a table, where two more blanks are one level
//! deeper. A class begins with its word alone on a line. Its scan lines are
//! read by [`scan`].

use jiff::tz::TimeZone;

use super::fields::{clean, count, fold};
use super::model::{Aux, Class, Errors, Kind, MAX_DEPTH, MAX_POOLS, MAX_VDEVS, Pool, State, Vdev};
use super::scan;

/// The most lines read; the largest honest pool has a few thousand.
const MAX_LINES: usize = 100_000;

/// All pools of an output, in their order. What belongs to no pool is dropped
/// (`no pools available`). `zone` is that of the machine that printed it.
pub fn parse_text(text: &str, zone: &TimeZone) -> Vec<Pool> {
    let mut pools: Vec<Section> = Vec::new();
    for line in text.lines().take(MAX_LINES) {
        let header = header(line);
        if let Some(("pool", name)) = header {
            if pools.len() == MAX_POOLS {
                break;
            }
            pools.push(Section::new(name, zone));
        } else if let Some(section) = pools.last_mut() {
            section.line(line, header);
        }
    }
    pools.into_iter().map(Section::finish).collect()
}

/// `key: value` at the left, for the keys that `zpool status` has.
fn header(line: &str) -> Option<(&str, &str)> {
    const KEYS: [&str; 15] = [
        "pool",
        "state",
        "status",
        "action",
        "see",
        "scan",
        "scrub",
        "scan warning",
        "remove",
        "expand",
        "checkpoint",
        "condense",
        "config",
        "errors",
        "dedup",
    ];
    if line.starts_with('\t') {
        return None;
    }
    let (key, value) = line.trim_start().split_once(':')?;
    let apart = value.is_empty() || value.starts_with(' ');
    (apart && KEYS.contains(&key)).then(|| (key, value.trim()))
}

struct Section<'a> {
    pool: Pool,
    zone: &'a TimeZone,
    key: String,
    scans: Vec<String>,
    table: Table,
    errors_said: bool,
    error_lines: u64,
}

impl<'a> Section<'a> {
    fn new(name: &str, zone: &'a TimeZone) -> Self {
        Self {
            pool: Pool { name: clean(name), ..Pool::default() },
            zone,
            key: String::new(),
            scans: Vec::new(),
            table: Table::default(),
            errors_said: false,
            error_lines: 0,
        }
    }

    fn line(&mut self, line: &str, header: Option<(&str, &str)>) {
        let value = match header {
            Some((key, value)) => {
                key.clone_into(&mut self.key);
                value
            }
            None => line.trim(),
        };
        match (self.key.as_str(), header.is_some()) {
            ("state", true) => self.pool.state = clean(value),
            ("see", true) => {
                let id = value.rsplit('/').next().unwrap_or(value);
                self.pool.msgid = Some(clean(id)).filter(|id| !id.is_empty());
            }
            ("status", _) => append(&mut self.pool.status, value),
            ("action", _) => append(&mut self.pool.action, value),
            ("scan", true) => self.scans.push(value.to_owned()),
            ("scan", false) => {
                if let Some(scan) = self.scans.last_mut() {
                    append(scan, value);
                }
            }
            ("errors", true) => self.errors(value),
            ("errors", false) if !value.is_empty() => self.error_lines += 1,
            ("config", true) if !value.is_empty() => {
                // "The configuration cannot be determined."
                self.pool.reject_vdev(&format!("config: {value}"));
            }
            ("config", false) => self.table.line(&mut self.pool, line),
            // Blank lines, and sections that say nothing about health.
            _ if value.is_empty() => {}
            (
                "errors" | "scrub" | "scan warning" | "remove" | "expand" | "checkpoint"
                | "condense" | "dedup",
                _,
            ) => {}
            _ => self.pool.reject(value),
        }
    }

    fn errors(&mut self, value: &str) {
        self.errors_said = true;
        if value == "No known data errors" {
            self.pool.error_count = Some(0);
        } else if let Some(number) = value.split(" data errors").next().and_then(count) {
            self.pool.error_count = Some(number);
        } else if !value.starts_with("Permanent errors") {
            // There are some, but the list may not be read: still errors.
            self.pool.error_count = Some(1);
            self.pool.reject(&format!("errors: {value}"));
        }
    }

    fn finish(mut self) -> Pool {
        if self.errors_said && self.pool.error_count.is_none() {
            self.pool.error_count = Some(self.error_lines.max(1));
        }
        for text in &self.scans {
            scan::read(&mut self.pool, text, self.zone);
        }
        if !self.table.rooted && !self.pool.partial {
            self.pool.reject_vdev("no config");
        }
        self.table.close(&mut self.pool, 0);
        self.pool
    }
}

fn append(text: &mut String, more: &str) {
    if text.len() < 4096 {
        *text = fold(&format!("{text} {more}"));
    }
}

/// The table of vdevs while it is read.
struct Table {
    /// Where the state column begins, in bytes from the tab; from the heading.
    column: Option<usize>,
    /// Which number column is that of slow I/Os.
    slow: Option<usize>,
    rooted: bool,
    class: Class,
    /// The vdev last read at each level.
    open: Vec<Vdev>,
    kept: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            column: None,
            slow: None,
            rooted: false,
            class: Class::Normal,
            open: Vec::new(),
            kept: 0,
        }
    }
}

impl Table {
    fn line(&mut self, pool: &mut Pool, line: &str) {
        let Some(row) = line.strip_prefix('\t').filter(|row| !row.trim().is_empty()) else {
            if !line.trim().is_empty() {
                pool.reject_vdev(line);
            }
            return;
        };
        if self.column.is_none() && row.trim_start().starts_with("NAME ") {
            self.column = row.find("STATE");
            let numbers = row.split_whitespace().skip(2);
            self.slow = numbers.enumerate().find(|(_, head)| *head == "SLOW").map(|(at, _)| at);
            return;
        }
        let indent = row.len() - row.trim_start_matches(' ').len();
        if indent == 0 && self.rooted {
            self.section(pool, row.trim());
            return;
        }
        let Some((name, state, rest)) = self.columns(row) else {
            pool.reject_vdev(row.trim());
            return;
        };
        if indent == 0 {
            self.rooted = true;
            if name != pool.name {
                pool.reject_vdev(row.trim());
            }
            return;
        }
        // Top-level vdevs stand at two blanks.
        let depth = (indent / 2).saturating_sub(1);
        if !self.rooted || self.kept == MAX_VDEVS || depth > MAX_DEPTH || depth > self.open.len() {
            pool.reject_vdev(row.trim());
            return;
        }
        self.kept += 1;
        self.close(pool, depth);
        self.open.push(vdev(pool, self.class, self.slow, name, state, rest));
    }

    fn section(&mut self, pool: &mut Pool, word: &str) {
        self.close(pool, 0);
        self.class = match word {
            "dedup" => Class::Dedup,
            "special" => Class::Special,
            "logs" => Class::Log,
            "cache" => Class::Cache,
            "spares" => Class::Spare,
            _ => {
                pool.reject_vdev(word);
                return;
            }
        };
    }

    /// Name, state and the rest of a row. The state's column is in the heading;
    /// a row that does not fit is split at blanks.
    fn columns<'a>(&self, row: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let at_column = self.column.and_then(|at| {
            let (name, rest) = (row.get(..at)?, row.get(at..)?);
            let fits = name.ends_with("  ") && !rest.starts_with(' ');
            fits.then(|| (name.trim(), rest))
        });
        let (name, rest) = at_column.or_else(|| row.trim().split_once(' '))?;
        let rest = rest.trim_start();
        let (state, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let word = !state.is_empty() && state.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        (word && !name.is_empty()).then_some((name, state, rest))
    }

    /// Puts the open vdevs from `depth` on into their parents.
    fn close(&mut self, pool: &mut Pool, depth: usize) {
        while self.open.len() > depth {
            let Some(child) = self.open.pop() else { return };
            match self.open.last_mut() {
                Some(parent) => {
                    if matches!(parent.kind, Kind::Disk | Kind::File) {
                        // It has members, so it is a kind that is not known here.
                        parent.kind = Kind::Other(parent.name.clone());
                    }
                    parent.children.push(child);
                }
                None => pool.vdevs.push(child),
            }
        }
    }
}

fn vdev(
    pool: &mut Pool,
    class: Class,
    slow: Option<usize>,
    name: &str,
    state: &str,
    rest: &str,
) -> Vdev {
    let mut vdev = Vdev::new(name, class);
    vdev.state = match state {
        "UNAVAIL" => State::CantOpen,
        word => State::of_word(word),
    };
    if matches!(vdev.state, State::Other(_)) {
        pool.reject(&format!("{name}: state {state}"));
    }
    let mut rest = rest.trim();
    if class != Class::Spare {
        let mut numbers = Vec::new();
        while let Some((number, after)) = next_number(rest) {
            numbers.push(number);
            rest = after.trim_start();
        }
        match numbers.as_slice() {
            [Some(read), Some(write), Some(checksum), ..] => {
                vdev.errors = Errors { read: *read, write: *write, checksum: *checksum };
            }
            _ => pool.reject(&format!("{name}: no error counters")),
        }
        vdev.slow_ios = slow.and_then(|at| numbers.get(at).copied().flatten());
    }
    notes(pool, &mut vdev, rest);
    // The text calls a device with the wrong contents FAULTED; it could not be opened.
    if vdev.state == State::Faulted && matches!(vdev.aux, Some(Aux::CorruptData | Aux::BadLog)) {
        vdev.state = State::CantOpen;
    }
    if vdev.was.is_some() {
        vdev.guid = count(name);
        vdev.kind = vdev.was.as_deref().map_or(Kind::Disk, Kind::of_name);
    }
    vdev
}

/// The next column if it is a number, or `-`, or the power state.
fn next_number(rest: &str) -> Option<(Option<u64>, &str)> {
    let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
    if matches!(word, "-" | "on" | "off") {
        return Some((None, after));
    }
    count(word).map(|number| (Some(number), after))
}

/// What stands behind the counters: why, and what is going on.
fn notes(pool: &mut Pool, vdev: &mut Vdev, rest: &str) {
    const AUX: [(&str, Aux); 13] = [
        ("cannot open", Aux::OpenFailed),
        ("missing device", Aux::BadGuidSum),
        ("insufficient replicas", Aux::NoReplicas),
        ("currently in use", Aux::Spared),
        ("in use by pool ", Aux::Spared),
        ("too many errors", Aux::ErrExceeded),
        ("too many slow I/Os", Aux::ErrExceeded),
        ("experienced I/O failures", Aux::IoFailure),
        ("bad intent log", Aux::BadLog),
        ("external device fault", Aux::External),
        ("all children offline", Aux::ChildrenOffline),
        ("invalid label", Aux::BadLabel),
        ("corrupted data", Aux::CorruptData),
    ];
    if let Some(path) = rest.strip_prefix("was ") {
        vdev.was = Some(clean(path.split("  (").next().unwrap_or(path)));
        return;
    }
    for note in rest.split("  ").map(str::trim).filter(|note| !note.is_empty()) {
        if let Some((_, aux)) = AUX.iter().find(|(words, _)| note.starts_with(words)) {
            vdev.aux = Some(aux.clone());
        } else if let Some(sizes) = note.strip_prefix("block size: ") {
            vdev.ashift = ashifts(sizes);
        } else if note == "(resilvering)" {
            vdev.resilvered = true;
        } else if note == "(awaiting resilver)" {
            vdev.deferred = true;
        } else if vdev.aux.is_none() && !note.starts_with(['(', '[']) {
            pool.reject(&format!("{}: {note}", vdev.name));
        }
    }
}

/// `512B configured, 4096B native`.
fn ashifts(text: &str) -> Option<(u64, u64)> {
    let (configured, native) = text.split_once(", ")?;
    let log2 = |size: &str, word| {
        let bytes = count(size.strip_suffix(word)?)?;
        bytes.checked_ilog2().map(u64::from)
    };
    log2(configured, " configured").zip(log2(native, " native"))
}

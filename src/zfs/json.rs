//! `zpool status -j --json-int` (2.3 and later) to [`Pool`]s. Pure.
//!
//! Facts: `pools.<name>` holds the pool; `vdevs` in it holds the root, whose
//! `vdevs` are the normal top-level vdevs; the other classes are siblings of
//! the root's `vdevs`. Without `--json-int` numbers are rounded strings and
//! times are dates; both are accepted.

use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::fields::{clean, fold, integer, moment};
use super::model::{
    Aux, Class, Errors, Function, Kind, MAX_DEPTH, MAX_POOLS, MAX_VDEVS, Pool, Rebuild, Scan,
    ScanState, State, Vdev, Work,
};

/// Why nothing can be made of an output as a whole.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON; cut short, for instance.
    #[error("the output of `zpool status -j` is not whole JSON")]
    Syntax(#[source] serde_json::Error),
    /// It is JSON of something else.
    #[error("the JSON is not that of `zpool status`: {0}")]
    Shape(&'static str),
}

type Object = Map<String, Value>;

/// All pools of an output; `{}` has none. `zone` is that of the machine that
/// printed it, for outputs made without `--json-int`.
pub fn parse_json(text: &str, zone: &TimeZone) -> Result<Vec<Pool>, JsonError> {
    let document: Value = serde_json::from_str(text).map_err(JsonError::Syntax)?;
    let document = document.as_object().ok_or(JsonError::Shape("it is not an object"))?;
    match document.get("pools") {
        None if document.is_empty() => Ok(Vec::new()),
        None => Err(JsonError::Shape("it has no `pools`")),
        Some(pools) => {
            let pools = pools.as_object().ok_or(JsonError::Shape("`pools` is not an object"))?;
            Ok(pools.iter().take(MAX_POOLS).map(|(key, value)| pool(key, value, zone)).collect())
        }
    }
}

fn pool(key: &str, value: &Value, zone: &TimeZone) -> Pool {
    let mut pool = Pool { name: clean(key), ..Pool::default() };
    let Some(object) = value.as_object() else {
        pool.reject_vdev(&format!("{key}: {}", shown(value)));
        return pool;
    };
    // The key is the guid with --json-pool-key-guid.
    if let Some(name) = object.get("name").and_then(Value::as_str) {
        pool.name = clean(name);
    }
    text_of(object, "state").clone_into(&mut pool.state);
    pool.status = fold(text_of(object, "status"));
    pool.action = fold(text_of(object, "action"));
    pool.msgid = Some(text_of(object, "msgid")).filter(|id| !id.is_empty()).map(clean);
    pool.state = clean(&pool.state);
    let mut reader = Reader { pool, left: MAX_VDEVS, zone };
    let place = reader.pool.name.clone();
    reader.pool.guid = reader.number(object, "pool_guid", &place);
    reader.pool.error_count = reader.number(object, "error_count", &place);
    match object.get("vdevs").and_then(Value::as_object) {
        Some(vdevs) => reader.roots(vdevs),
        None => reader.pool.reject_vdev(&format!("{place}: no `vdevs`")),
    }
    let classes = [
        ("dedup", Class::Dedup),
        ("special", Class::Special),
        ("logs", Class::Log),
        ("l2cache", Class::Cache),
        ("spares", Class::Spare),
    ];
    for (key, class) in classes {
        match object.get(key) {
            None => {}
            Some(Value::Object(vdevs)) => {
                let tops = reader.vdevs(vdevs, class, 0);
                reader.pool.vdevs.extend(tops);
            }
            Some(other) => reader.pool.reject_vdev(&format!("{key}: {}", shown(other))),
        }
    }
    reader.scans(object);
    reader.pool
}

struct Reader<'a> {
    pool: Pool,
    /// How many more vdevs may be kept.
    left: usize,
    zone: &'a TimeZone,
}

impl Reader<'_> {
    /// An integer field; one that is there and is none is rejected.
    fn number(&mut self, object: &Object, key: &str, place: &str) -> Option<u64> {
        let value = object.get(key)?;
        integer(value).unwrap_or_else(|_| {
            self.pool.reject(&format!("{place}: {key} {}", shown(value)));
            None
        })
    }

    /// The pool's own `vdevs`: the root, and with --json-flat-vdevs everything
    /// else as well, which is then found below its parents.
    fn roots(&mut self, vdevs: &Object) {
        let is_root = |name: &str, vdev: &Object| match vdev.get("vdev_type") {
            Some(kind) => kind == "root",
            None => name == self.pool.name,
        };
        let mut found = false;
        let objects = |value: &Value| value.as_object().cloned();
        let (roots, others): (Vec<_>, Vec<_>) = vdevs
            .iter()
            .map(|(name, value)| (name, objects(value)))
            .partition(|(name, vdev)| vdev.as_ref().is_some_and(|vdev| is_root(name, vdev)));
        for root in roots.into_iter().filter_map(|(_, root)| root) {
            found = true;
            let place = self.pool.name.clone();
            self.pool.size = self.number(&root, "total_space", &place);
            self.pool.alloc =
                self.number(&root, "alloc_space", &place).or(self.pool.size.map(|_| 0));
            match root.get("vdevs").and_then(Value::as_object) {
                Some(members) => {
                    let tops = self.vdevs(members, Class::Normal, 0);
                    self.pool.vdevs.extend(tops);
                }
                None => self.pool.reject_vdev(&format!("{place}: the root has no `vdevs`")),
            }
        }
        for (name, vdev) in others {
            let class = vdev.as_ref().and_then(|v| class_of(text_of(v, "class")));
            match (vdev, class) {
                (Some(vdev), _) if vdev.contains_key("parent") => {}
                (Some(vdev), Some(class)) => {
                    let top = self.vdev(name, &vdev, class, 0);
                    self.pool.vdevs.extend(top);
                }
                _ => self.pool.reject_vdev(&format!("{name}: of no known class")),
            }
        }
        if !found {
            self.pool.reject_vdev("no root vdev");
        }
    }

    fn vdevs(&mut self, vdevs: &Object, class: Class, depth: usize) -> Vec<Vdev> {
        let mut kept = Vec::new();
        for (name, value) in vdevs {
            if let Some(object) = value.as_object() {
                kept.extend(self.vdev(name, object, class, depth));
            } else {
                // It stays in the tree, in no known state.
                self.pool.reject_vdev(&format!("{name}: {}", shown(value)));
                kept.push(Vdev::new(name, class));
            }
        }
        kept
    }

    fn vdev(&mut self, key: &str, object: &Object, class: Class, depth: usize) -> Option<Vdev> {
        if self.left == 0 || depth > MAX_DEPTH {
            self.pool.reject_vdev(&format!("{key}: more vdevs than any honest pool has"));
            return None;
        }
        self.left -= 1;
        let name = Some(text_of(object, "name")).filter(|name| !name.is_empty()).unwrap_or(key);
        let mut vdev = Vdev::new(name, class);
        let kind = text_of(object, "vdev_type");
        if !kind.is_empty() {
            vdev.kind = Kind::of_word(kind);
        }
        vdev.state = State::of_word(text_of(object, "state"));
        if matches!(vdev.state, State::Other(_)) {
            self.pool.reject(&format!("{name}: state {:?}", text_of(object, "state")));
        }
        let gone = object.get("not_present").is_some();
        let path = |key| Some(clean(text_of(object, key))).filter(|path| !path.is_empty());
        if gone {
            vdev.was = path("was").or_else(|| path("path"));
        } else if matches!(vdev.kind, Kind::Disk | Kind::File) {
            vdev.name = path("path").unwrap_or(vdev.name);
        }
        let place = vdev.name.clone();
        vdev.guid = self.number(object, "guid", &place);
        vdev.aux = Some(text_of(object, "aux")).filter(|aux| !aux.is_empty()).map(Aux::of_word);
        let mut errors = |key| self.number(object, key, &place).unwrap_or(0);
        vdev.errors = Errors {
            read: errors("read_errors"),
            write: errors("write_errors"),
            checksum: errors("checksum_errors"),
        };
        vdev.resilvered = errors("scan_processed") > 0;
        vdev.deferred = object.get("resilver_deferred").is_some_and(is_set);
        vdev.slow_ios = self.number(object, "slow_ios", &place);
        vdev.ashift = self.number(object, "configured_ashift", &place).zip(self.number(
            object,
            "physical_ashift",
            &place,
        ));
        match object.get("vdevs") {
            None => {}
            Some(Value::Object(children)) => vdev.children = self.vdevs(children, class, depth + 1),
            Some(other) => self.pool.reject_vdev(&format!("{place}: vdevs {}", shown(other))),
        }
        Some(vdev)
    }

    fn scans(&mut self, pool: &Object) {
        let Some(value) = pool.get("scan_stats") else { return };
        let Some(stats) = value.as_object() else {
            self.pool.reject(&format!("scan_stats: {}", shown(value)));
            return;
        };
        let scan = self.scan(stats);
        self.pool.scan = scan;
        let rebuilds = stats.get("rebuild_stats").and_then(Value::as_object);
        for (name, value) in rebuilds.into_iter().flatten().take(MAX_VDEVS) {
            match value.as_object().and_then(|object| self.rebuild(name, object)) {
                Some(rebuild) => self.pool.rebuilds.push(rebuild),
                None => self.pool.reject(&format!("rebuild of {name}: {}", shown(value))),
            }
        }
    }

    fn scan(&mut self, stats: &Object) -> Option<Scan> {
        let function = match text_of(stats, "function") {
            "SCRUB" => Function::Scrub,
            "RESILVER" => Function::Resilver,
            // Nothing yet, only rebuilds, or a scrub of known errors only.
            "" | "NONE" | "ERRORSCRUB" => return None,
            other => {
                self.pool.reject(&format!("scan function {other}"));
                return None;
            }
        };
        let time = |key| stats.get(key).and_then(|value| moment(value, self.zone));
        let (started, ended, paused) =
            (time("start_time"), time("end_time"), time("scrub_pause").is_some());
        let mut number = |key| self.number(stats, key, "scan");
        let (issued, all) = (number("issued"), number("to_examine"));
        let skipped = number("skipped").unwrap_or(0);
        let errors = number("errors").unwrap_or(0);
        let state = match text_of(stats, "state") {
            "SCANNING" if paused => ScanState::Paused,
            "SCANNING" => ScanState::Scanning,
            "FINISHED" => ScanState::Finished,
            "CANCELED" => ScanState::Canceled,
            "NONE" => return None,
            other => {
                self.pool.reject(&format!("scan state {other}"));
                return None;
            }
        };
        let work = work(state, issued, all, skipped);
        Some(Scan {
            function,
            state,
            progress: progress(state, work),
            work,
            errors,
            started,
            ended,
        })
    }

    fn rebuild(&mut self, name: &str, stats: &Object) -> Option<Rebuild> {
        let state = match text_of(stats, "state") {
            "ACTIVE" => ScanState::Scanning,
            "COMPLETE" => ScanState::Finished,
            "CANCELED" => ScanState::Canceled,
            _ => return None,
        };
        let mut number = |key| self.number(stats, key, name);
        let done = number("issued").or_else(|| number("scanned"));
        let (all, skipped) = (number("to_scan"), number("pass_skipped").unwrap_or(0));
        let work = work(state, done, all, skipped);
        Some(Rebuild {
            vdev: clean(name),
            state,
            progress: progress(state, work),
            work,
            errors: self.number(stats, "errors", name).unwrap_or(0),
            started: stats.get("start_time").and_then(|v| moment(v, self.zone)),
            ended: stats.get("end_time").and_then(|v| moment(v, self.zone)),
        })
    }
}

/// A flag: 1, "1", true or "true".
fn is_set(value: &Value) -> bool {
    value == &Value::Bool(true) || value == "true" || integer(value).is_ok_and(|n| n > Some(0))
}

/// What is done and to do, of a scan that is under way.
fn work(state: ScanState, done: Option<u64>, all: Option<u64>, skipped: u64) -> Option<Work> {
    let under_way = matches!(state, ScanState::Scanning | ScanState::Paused);
    let (done, all) = (done.filter(|_| under_way)?, all?);
    Some(Work { done, all: all.saturating_sub(skipped) })
}

/// Fraction done: what was issued of what there is to issue. A scan that has
/// not found out yet how much there is stands at 0.
fn progress(state: ScanState, work: Option<Work>) -> Option<f64> {
    match state {
        ScanState::Finished => Some(1.0),
        ScanState::Canceled => None,
        ScanState::Scanning | ScanState::Paused => work.map(Work::fraction),
    }
}

fn class_of(word: &str) -> Option<Class> {
    Some(match word {
        "normal" => Class::Normal,
        "special" => Class::Special,
        "dedup" => Class::Dedup,
        "log" => Class::Log,
        "l2cache" => Class::Cache,
        "spare" => Class::Spare,
        _ => return None,
    })
}

fn text_of<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or("")
}

/// A rejected value, short.
fn shown(value: &Value) -> String {
    let kind = match value {
        Value::Object(_) => return "(an object)".to_owned(),
        Value::Array(_) => return "(a list)".to_owned(),
        other => other.to_string(),
    };
    kind.chars().take(100).collect()
}

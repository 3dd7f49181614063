//! Who else scrubs pools or makes snapshots: the distribution's cron jobs and
//! timers, sanoid, zfs-auto-snapshot and the like. Read from files; no program
//! is asked.
//!
//! Debian scrubs all pools by `/etc/cron.d/zfsutils-linux` on the second Sunday
//! of the month, but for pools with the property
//! `org.debian:periodic-scrub=disable`; OpenZFS brings the timers
//! `zfs-scrub-weekly@POOL` and `zfs-scrub-monthly@POOL`, which are off until
//! they are enabled (openzfs/etc/systemd/system). A sanoid that nobody starts
//! does nothing.

use crate::host::SysRoot;
use crate::host::sys::SysError;

/// Something that another program does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// `scrub` or `snapshots`.
    pub kind: &'static str,
    /// The pool, or the dataset with all below it; `None` for all, or not known which.
    pub object: Option<String>,
    /// Who.
    pub program: String,
    /// The file that says so.
    pub file: String,
    /// How it is ended.
    pub advice: String,
}

/// Programs that run cron jobs; without one, their files mean nothing.
const CRONS: [&str; 7] = [
    "/usr/sbin/cron",
    "/usr/sbin/crond",
    "/usr/bin/crond",
    "/usr/sbin/bcron-sched",
    "/usr/sbin/fcron",
    "/usr/lib/systemd/system-generators/systemd-crontab-generator",
    "/usr/lib/systemd/system-generators/systemd-crond-generator",
];
const CRONTABS: [&str; 3] =
    ["/etc/crontab", "/var/spool/cron/crontabs/root", "/var/spool/cron/root"];
const CRON_FOLDERS: [&str; 5] =
    ["/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly"];
const TIMERS: &str = "/etc/systemd/system/timers.target.wants";
const SERVICES: &str = "/etc/systemd/system/multi-user.target.wants";
const SANOID: &str = "/etc/sanoid/sanoid.conf";
const TRUENAS: &str = "/usr/bin/midclt";
/// A job's file is a few lines.
const MAX_FILE: u64 = 256 << 10;
/// Files of a folder that are looked at, and lines that are told.
const MAX: usize = 256;

/// All that is found, and what could not be looked at.
pub fn look(sys: &SysRoot) -> (Vec<Elsewhere>, Vec<String>) {
    let mut found = Found::default();
    if CRONS.iter().any(|cron| sys.exists(cron)) {
        for path in CRONTABS {
            found.cron(sys, path);
        }
        for folder in CRON_FOLDERS {
            for name in found.list(sys, folder).into_iter().filter(|name| runs(name)) {
                found.cron(sys, &format!("{folder}/{name}"));
            }
        }
    }
    for unit in found.list(sys, TIMERS) {
        found.timer(&unit);
    }
    for unit in found.list(sys, SERVICES) {
        let program = unit.trim_end_matches(".service");
        if ["zrepl", "znapzend"].contains(&program) {
            let file = format!("{SERVICES}/{unit}");
            found.add(
                "snapshots",
                None,
                program,
                &file,
                format!("`systemctl disable --now {unit}`"),
            );
        }
    }
    if let Some(by) = found.sanoid.take()
        && let Some(text) = found.text(sys, SANOID)
    {
        for dataset in sanoid(&text) {
            let advice = format!("remove its section there (sanoid is started by {by})");
            found.add("snapshots", Some(dataset), "sanoid", SANOID, advice);
        }
    }
    if sys.exists(TRUENAS) {
        let advice = "see Data Protection, Scrub Tasks in its web page".to_owned();
        found.add("scrub", None, "TrueNAS", TRUENAS, advice);
    }
    (found.all, found.notes)
}

/// Names of files that are left behind by packages and editors are not run.
fn runs(name: &str) -> bool {
    let left = [".dpkg-old", ".dpkg-dist", ".dpkg-new", ".rpmsave", ".rpmnew", ".bak", "~"];
    !name.starts_with('.') && !left.iter().any(|end| name.ends_with(end))
}

#[derive(Default)]
struct Found {
    all: Vec<Elsewhere>,
    notes: Vec<String>,
    /// What starts sanoid.
    sanoid: Option<String>,
}

impl Found {
    fn add(
        &mut self,
        kind: &'static str,
        object: Option<String>,
        program: &str,
        file: &str,
        advice: String,
    ) {
        let (program, file) = (program.to_owned(), file.to_owned());
        let one = Elsewhere { kind, object, program, file, advice };
        if self.all.len() < MAX && !self.all.contains(&one) {
            self.all.push(one);
        }
    }

    fn failed(&mut self, path: &str, error: &SysError) {
        if !error.is_missing() && self.notes.len() < MAX {
            let why = error.why();
            self.notes
                .push(format!("{path}: {why}; whether it scrubs or makes snapshots is not known"));
        }
    }

    fn list(&mut self, sys: &SysRoot, folder: &str) -> Vec<String> {
        match sys.list(folder) {
            Ok(mut names) => {
                names.truncate(MAX);
                names
            }
            Err(error) => {
                self.failed(folder, &error);
                Vec::new()
            }
        }
    }

    fn text(&mut self, sys: &SysRoot, path: &str) -> Option<String> {
        match sys.bytes(path, MAX_FILE) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => {
                self.failed(path, &error);
                None
            }
        }
    }

    fn timer(&mut self, unit: &str) {
        let file = format!("{TIMERS}/{unit}");
        let advice = format!("`systemctl disable --now '{unit}'`");
        let name = unit.trim_end_matches(".timer");
        match name.split_once('@') {
            Some((template, pool)) if template.starts_with("zfs-scrub") => {
                self.add("scrub", Some(unescaped(pool)), "a systemd timer", &file, advice);
            }
            _ if name == "zfs-scrub" => self.add("scrub", None, "a systemd timer", &file, advice),
            _ if name == "sanoid" => self.sanoid = Some(unit.to_owned()),
            _ if ["pyznap", "zfs-auto-snapshot", "zfsnap"]
                .iter()
                .any(|known| name.starts_with(known)) =>
            {
                self.add("snapshots", None, name, &file, advice);
            }
            _ => {}
        }
    }

    fn cron(&mut self, sys: &SysRoot, path: &str) {
        let Some(text) = self.text(sys, path) else { return };
        for job in jobs(&text) {
            match job {
                Job::Scrub(pool) => {
                    let line = "put a `#` before the line".to_owned();
                    self.add("scrub", pool, "cron", path, line);
                }
                Job::Debian => {
                    let advice = "put a `#` before its scrub line (or, for one pool, `zfs set \
                                  org.debian:periodic-scrub=disable POOL`, which hostd does not see)";
                    self.add("scrub", None, "the distribution's cron job", path, advice.to_owned());
                }
                Job::Sanoid => self.sanoid = Some(path.to_owned()),
                Job::Snapshots(program, dataset) => {
                    let advice = "put a `#` before the line, or remove the package".to_owned();
                    self.add("snapshots", dataset, program, path, advice);
                }
            }
        }
    }
}

/// What a line of a cron job or its script starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// `zpool scrub` of a pool; `None` when it does not say which.
    Scrub(Option<String>),
    /// Debian's script, which scrubs all.
    Debian,
    /// sanoid, whose own file says what it does.
    Sanoid,
    /// A program that makes snapshots, and of which dataset.
    Snapshots(&'static str, Option<String>),
}

/// The jobs of a file; comments are none.
pub fn jobs(text: &str) -> Vec<Job> {
    const PROGRAMS: [&str; 5] = ["zfs-auto-snapshot", "pyznap", "zfsnap", "zfSnap", "znapzend"];
    let mut out = Vec::new();
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    for line in lines {
        if out.len() >= MAX {
            break;
        }
        if line.contains("/zfs-linux/scrub") {
            out.push(Job::Debian);
        }
        if let Some((_, rest)) = line.split_once("zpool scrub") {
            let words = rest.split_whitespace();
            let words: Vec<&str> = words.take_while(|word| !is_shell(word)).collect();
            let pauses = words.iter().any(|word| ["-s", "-p"].contains(word));
            let named = words.iter().filter(|word| !word.starts_with('-'));
            let mut pools: Vec<Option<String>> = named.map(|word| plain(word)).collect();
            if pools.is_empty() || pools.contains(&None) {
                pools = vec![None];
            }
            if !pauses {
                out.extend(pools.into_iter().map(Job::Scrub));
            }
        }
        if line.contains("sanoid") && !line.contains("--monitor") {
            out.push(Job::Sanoid);
        }
        if let Some(program) = PROGRAMS.into_iter().find(|program| line.contains(program)) {
            out.push(Job::Snapshots(program, None));
        }
        if let Some((_, rest)) =
            ["zfs snapshot ", "zfs snap "].iter().find_map(|w| line.split_once(w))
        {
            let named = rest.split_whitespace().find_map(|word| word.split_once('@'));
            out.push(Job::Snapshots("cron", named.and_then(|(dataset, _)| plain(dataset))));
        }
    }
    out.truncate(MAX);
    out
}

fn is_shell(word: &str) -> bool {
    word.starts_with([';', '&', '|', '>', '<', '#']) || word.starts_with("2>")
}

/// A word that is what it says: no variable, pattern or substitution.
fn plain(word: &str) -> Option<String> {
    let word = word.trim_end_matches(';').trim_matches(['"', '\'']);
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_.:-/".contains(&b);
    (!word.is_empty() && word.bytes().all(good)).then(|| word.to_owned())
}

/// The datasets that sanoid makes snapshots of, by its `sanoid.conf`: all
/// sections that are no template, but for those with `autosnap = no` in
/// themselves or in their last template that says something.
pub fn sanoid(text: &str) -> Vec<String> {
    struct Section {
        name: String,
        templates: Vec<String>,
        autosnap: Option<bool>,
    }
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.trim().to_owned();
            if sections.len() < MAX {
                sections.push(Section { name, templates: Vec::new(), autosnap: None });
            }
        } else if let (Some((key, value)), Some(section)) =
            (line.split_once('='), sections.last_mut())
        {
            match (key.trim(), value.trim()) {
                ("use_template", value) => {
                    section.templates = value.split(',').map(|one| one.trim().to_owned()).collect();
                }
                ("autosnap", value) => {
                    let off = ["no", "0", "off", "false"];
                    section.autosnap = Some(!off.contains(&value.to_lowercase().as_str()));
                }
                _ => {}
            }
        }
    }
    let template = |name: &String| {
        let name = format!("template_{name}");
        sections.iter().find(|section| section.name == name)?.autosnap
    };
    let makes = |section: &&Section| {
        let inherited = || section.templates.iter().rev().find_map(template);
        section.autosnap.or_else(inherited).unwrap_or(true)
    };
    let datasets = sections.iter().filter(|section| !section.name.starts_with("template_"));
    datasets.filter(makes).map(|section| section.name.clone()).collect()
}

/// The instance of a unit as it was meant: `\x20` is a space.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\x");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let plain = byte.filter(|byte| byte.is_ascii_graphic() || *byte == b' ');
        if let (Some(byte), Some(rest)) = (plain, part.get(2..)) {
            out.push(char::from(byte));
            out.push_str(rest);
        } else {
            out.push_str("\\x");
            out.push_str(part);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::fake::FakeHost;

    /// As Debian 13 ships it.
    const DEBIAN: &str = "PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin\n\n\
        # TRIM the first Sunday of every month.\n\
        24 0 1-7 * * root if [ $(date +\\%w) -eq 0 ] && [ -x /usr/lib/zfs-linux/trim ]; then \
        /usr/lib/zfs-linux/trim; fi\n\n\
        # Scrub the second Sunday of every month.\n\
        24 0 8-14 * * root if [ $(date +\\%w) -eq 0 ] && [ -x /usr/lib/zfs-linux/scrub ]; then \
        /usr/lib/zfs-linux/scrub; fi\n";

    const SANOID_CONF: &str = "[tank/home]\n  use_template = production\n  recursive = yes\n\
        # [tank/old]\n[tank/replica]\n use_template = backup\n[tank/mixed]\nuse_template = backup\n\
        autosnap = yes\n[template_production]\nhourly = 36 # many\nautosnap = yes\n\
        [template_backup]\nautosnap = no\n";

    #[test]
    fn jobs_of_cron() {
        assert_eq!(jobs(DEBIAN), [Job::Debian]);
        assert_eq!(jobs(&DEBIAN.replace("24 0 8-14", "#24 0 8-14")), []);
        let own = "0 3 * * 1 root /usr/sbin/zpool scrub tank dozer > /dev/null\n\
                   0 9 * * 1 root zpool scrub -p tank\n\
                   0 4 1 * * root for p in $(zpool list -H -o name); do zpool scrub $p; done\n\
                   @daily root zfs snapshot -r tank/home@$(date +\\%F)\n\
                   */15 * * * * root TZ=UTC /usr/sbin/sanoid --cron\n";
        let tank = |name: &str| Some(name.to_owned());
        assert_eq!(
            jobs(own),
            [
                Job::Scrub(tank("tank")),
                Job::Scrub(tank("dozer")),
                Job::Scrub(None),
                Job::Snapshots("cron", tank("tank/home")),
                Job::Sanoid,
            ]
        );
        assert_eq!(
            jobs("exec zfs-auto-snapshot --quiet --syslog --label=daily --keep=31 //"),
            [Job::Snapshots("zfs-auto-snapshot", None)]
        );
    }

    #[test]
    fn sanoid_makes_what_its_templates_do_not_forbid() {
        assert_eq!(sanoid(SANOID_CONF), ["tank/home", "tank/mixed"]);
    }

    #[test]
    fn a_machine_with_all_of_them_and_one_without_a_cron() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let sys = fake.host().sys;
        assert_eq!(look(&sys), (vec![], vec![]));
        fake.file("/etc/cron.d/zfsutils-linux", DEBIAN).unwrap();
        fake.file("/etc/cron.d/zfsutils-linux.dpkg-old", "zpool scrub old").unwrap();
        fake.file("/etc/sanoid/sanoid.conf", SANOID_CONF).unwrap();
        assert_eq!(look(&sys).0, [], "nobody runs them");
        fake.file("/usr/sbin/cron", "").unwrap();
        fake.file("/etc/systemd/system/timers.target.wants/zfs-scrub-weekly@my\\x20tank.timer", "")
            .unwrap();
        fake.file("/etc/systemd/system/timers.target.wants/sanoid.timer", "").unwrap();
        let (found, notes) = look(&sys);
        let short: Vec<_> = found
            .iter()
            .map(|one| (one.kind, one.object.as_deref(), one.program.as_str()))
            .collect();
        assert_eq!(
            short,
            [
                ("scrub", None, "the distribution's cron job"),
                ("scrub", Some("my tank"), "a systemd timer"),
                ("snapshots", Some("tank/home"), "sanoid"),
                ("snapshots", Some("tank/mixed"), "sanoid"),
            ]
        );
        assert_eq!(notes, [""; 0]);
        fake.remove("/etc/crontab").unwrap();
        fake.dir("/etc/crontab").unwrap();
        assert_eq!(look(&sys).1.len(), 1, "what cannot be read is told");
    }

    proptest! {
        #[test]
        fn any_text_is_read(
            text in "(?s).{0,300}",
            near in "(zpool scrub|zfs snapshot|sanoid|\\[|\\]|=|autosnap|use_template|@|\n| |a|\\$|\\\\x){0,40}",
        ) {
            for text in [text, near] {
                prop_assert!(jobs(&text).len() <= MAX && sanoid(&text).len() <= MAX);
                let _ = unescaped(&text);
            }
        }
    }
}

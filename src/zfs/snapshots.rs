//! Snapshots that hostd makes by policy, marks and destroys. See
//! zfs-snapshot(8), zfs-set(8), zfs-destroy(8).
//!
//! The mark is a property of the snapshot itself: one that is inherited from
//! the dataset, or came with `zfs receive`, has another source and is no mark.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::Timestamp;
use crate::host::Host;
use crate::host::run::{Command, RunError};

/// How hostd marks what it makes; the value is the kind.
pub const MARK: &str = "org.hostd:care";
/// How everything begins that may be destroyed here.
const OURS: &str = "@hostd-auto-";
/// Making or destroying one waits for a transaction group.
const ACT: Duration = Duration::from_secs(60);
/// Reading the marks of many snapshots takes its time.
const LOOK: Duration = Duration::from_secs(60);

/// What is asked about one right before it is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail {
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its own mark.
    pub mark: Option<String>,
    /// How many hold it.
    pub holds: Option<u64>,
}

/// Makes a snapshot, of all datasets below at the same moment if `recursive`.
pub async fn make(
    host: &Host,
    dataset: &str,
    recursive: bool,
    tag: &str,
    kind: &str,
) -> Result<(), RunError> {
    let (mark, name) = (format!("{MARK}={kind}"), format!("{dataset}@{tag}"));
    let mut args = vec!["snapshot"];
    args.extend(recursive.then_some("-r"));
    args.extend(["-o", &mark, &name]);
    run(host, Command::new("zfs", args).deadline(ACT)).await.map(drop)
}

/// The snapshots with a mark of their own: full names with its value.
pub async fn marked(
    host: &Host,
    dataset: &str,
    recursive: bool,
) -> Result<Vec<(String, String)>, RunError> {
    let depth: &[&str] = if recursive { &["-r"] } else { &["-d", "1"] };
    let mut args = vec!["get", "-Hp", "-s", "local", "-t", "snapshot", "-o", "name,value"];
    args.extend(depth);
    args.extend([MARK, dataset]);
    let text = run(host, Command::new("zfs", args).deadline(LOOK)).await?;
    Ok(parse_marked(&text))
}

/// Lines of `name<TAB>value`; others are no snapshots of ours.
pub fn parse_marked(text: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (name, value) = line.split_once('\t')?;
        name.contains('@').then(|| (name.to_owned(), value.trim_end().to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// What there is to know about some snapshots, now.
pub async fn details(host: &Host, names: &[String]) -> Result<BTreeMap<String, Detail>, RunError> {
    let about = format!("creation,userrefs,{MARK}");
    let mut args = vec!["get", "-Hp", "-o", "name,property,value,source", &about];
    args.extend(names.iter().map(String::as_str));
    let text = run(host, Command::new("zfs", args).deadline(LOOK)).await?;
    Ok(parse_details(&text))
}

/// Lines of `name<TAB>property<TAB>value<TAB>source`. What is missing or not
/// understood stays unknown.
pub fn parse_details(text: &str) -> BTreeMap<String, Detail> {
    let mut out: BTreeMap<String, Detail> = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split('\t');
        let (Some(name), Some(property), Some(value)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let detail = out.entry(name.to_owned()).or_default();
        match property {
            "creation" => detail.created = value.parse().ok().map(Timestamp::from_secs),
            "userrefs" => detail.holds = value.parse().ok(),
            MARK if fields.next() == Some("local") => detail.mark = Some(value.to_owned()),
            _ => {}
        }
    }
    out
}

/// Destroys one snapshot and nothing with it: clones and holds keep it.
pub async fn destroy(host: &Host, name: &str) -> Result<(), Refused> {
    // Whatever the caller thinks: this cannot name a dataset, several
    // snapshots, or anything that hostd does not call so.
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.contains(OURS)
        && name.matches('@').count() == 1
        && !name.contains([',', '%', '\0']);
    if !good {
        return Err(Refused::Name(name.to_owned()));
    }
    run(host, Command::new("zfs", ["destroy", name]).deadline(ACT)).await?;
    Ok(())
}

/// Why a snapshot was not destroyed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be one of ours.
    #[error("{0:?} is not a snapshot of hostd's")]
    Name(String),
    /// ZFS said no.
    #[error(transparent)]
    Zfs(#[from] RunError),
}

async fn run(host: &Host, command: Command) -> Result<String, RunError> {
    let stdout = host.runner.run(command.clone()).await?.success(&command)?;
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn only_a_mark_of_its_own_counts() {
        let text = "tank@hostd-auto-daily-x\tcreation\t1795000000\t-\n\
                    tank@hostd-auto-daily-x\tuserrefs\t0\t-\n\
                    tank@hostd-auto-daily-x\torg.hostd:care\tdaily\tlocal\n\
                    tank@b\torg.hostd:care\tdaily\tinherited from tank\n\
                    tank@c\torg.hostd:care\tdaily\treceived\n\
                    tank@d\tuserrefs\tmany\t-\nnonsense\n";
        let details = parse_details(text);
        let first = &details["tank@hostd-auto-daily-x"];
        assert_eq!(first.created, Some(Timestamp::from_secs(1_795_000_000)));
        assert_eq!((first.mark.as_deref(), first.holds), (Some("daily"), Some(0)));
        assert!(
            details
                .iter()
                .filter(|(name, _)| !name.contains("auto"))
                .all(|(_, detail)| { *detail == Detail::default() })
        );
        assert_eq!(details.len(), 4);
    }

    #[tokio::test]
    async fn what_is_typed() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.runner.says("zfs", "tank/a@x\tdaily\nno snapshot\tdaily\n");
        let host = fake.host();
        make(&host, "tank/My Files", true, "hostd-auto-daily-2026", "daily").await.unwrap();
        let marked = marked(&host, "tank", false).await.unwrap();
        assert_eq!(marked, [("tank/a@x".to_owned(), "daily".to_owned())]);
        destroy(&host, "tank@hostd-auto-daily-2026").await.unwrap();
        let asked: Vec<_> = fake.runner.asked().iter().map(ToString::to_string).collect();
        assert_eq!(
            asked,
            [
                "zfs snapshot -r -o org.hostd:care=daily 'tank/My Files@hostd-auto-daily-2026'",
                "zfs get -Hp -s local -t snapshot -o name,value -d 1 org.hostd:care tank",
                "zfs destroy tank@hostd-auto-daily-2026",
            ]
        );
        let bad = [
            "tank",
            "tank@x",
            "-r@hostd-auto-x",
            "a@b@hostd-auto-",
            "a@hostd-auto-x,y",
            "a@hostd-auto-a%b",
        ];
        for name in bad {
            assert!(matches!(destroy(&host, name).await, Err(Refused::Name(_))), "{name}");
        }
        assert!(fake.runner.asked().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(?s).{0,200}", tabs in "([a@\t0-9\n:.-]|local|creation){0,60}") {
            for text in [text, tabs] {
                let _ = (parse_marked(&text), parse_details(&text));
            }
        }
    }
}

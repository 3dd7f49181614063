//! ZFS: the commands and what they say. See zfs-snapshot(8), zfs-list(8),
//! zfs-rollback(8), zfs-destroy(8).
//!
//! [`destroy`] is the only place that destroys, and what it is given cannot
//! name anything but a snapshot called `hostd-…`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::note::{Dataset, Tag};
use crate::host::Host;
use crate::host::run::{Command, RunError};

/// How long looking may take: less than who asks is willing to wait.
const LOOK: Duration = Duration::from_secs(7);
/// How long making or removing one may take.
const ACT: Duration = Duration::from_secs(60);

fn zfs(args: Vec<String>, deadline: Duration) -> Command {
    Command::new("zfs", args).deadline(deadline)
}

fn full(dataset: &Dataset, tag: &Tag) -> String {
    format!("{dataset}@{tag}")
}

/// Makes snapshots of volumes of one pool, at one moment: all or none.
pub fn snapshot(datasets: &[Dataset], tag: &Tag) -> Command {
    let names = datasets.iter().map(|dataset| full(dataset, tag));
    zfs(std::iter::once("snapshot".to_owned()).chain(names).collect(), ACT)
}

/// Destroys one snapshot of ours, and nothing with it: clones and holds keep it.
pub fn destroy(dataset: &Dataset, tag: &Tag) -> Command {
    zfs(vec!["destroy".to_owned(), full(dataset, tag)], ACT)
}

/// Takes a volume back; `newer`: over newer snapshots, which are destroyed.
pub fn rollback(dataset: &Dataset, tag: &Tag, newer: bool) -> Command {
    let how = newer.then(|| "-r".to_owned());
    let args = std::iter::once("rollback".to_owned()).chain(how);
    zfs(args.chain([full(dataset, tag)]).collect(), ACT)
}

/// Something that ZFS knows of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Behind the `@` or `#`.
    pub name: String,
    /// Not a snapshot, but a bookmark.
    pub bookmark: bool,
    /// When it was made, as transactions are counted.
    pub txg: u64,
    /// Bytes that only it holds.
    pub used: Option<u64>,
}

/// What ZFS knows of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Volume {
    /// It is a volume, and not a file system.
    pub is_volume: bool,
    /// Bytes that it refers to.
    pub size: Option<u64>,
    /// Its snapshots and bookmarks, oldest first.
    pub marks: Vec<Mark>,
}

impl Volume {
    /// The snapshot of this name.
    pub fn find(&self, tag: &Tag) -> Option<&Mark> {
        self.marks.iter().find(|mark| !mark.bookmark && mark.name == tag.as_str())
    }

    /// What is newer than the snapshot of this name.
    pub fn newer(&self, tag: &Tag) -> Vec<&Mark> {
        let since = self.find(tag).map(|mark| mark.txg);
        let newer = |mark: &&Mark| {
            since.is_some_and(|since| {
                // Made in the same transaction: no older.
                mark.txg >= since && (mark.bookmark || mark.name != tag.as_str())
            })
        };
        self.marks.iter().filter(newer).collect()
    }
}

/// What is known of each dataset.
pub type Survey = BTreeMap<String, Volume>;

/// Looks at these datasets; asks nothing when there are none. Those that do
/// not exist are left out.
pub async fn survey(host: &Host, datasets: &[Dataset]) -> Result<Survey, RunError> {
    if datasets.is_empty() {
        return Ok(Survey::new());
    }
    match look(host, datasets).await {
        Err(error) if is_gone(&error) => {}
        other => return other,
    }
    // It does not say which, and lists nothing.
    let mut survey = Survey::new();
    for dataset in datasets {
        match look(host, std::slice::from_ref(dataset)).await {
            Ok(one) => survey.extend(one),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(survey)
}

fn is_gone(error: &RunError) -> bool {
    matches!(error, RunError::Failed { stderr, .. } if stderr.contains("does not exist"))
}

async fn look(host: &Host, datasets: &[Dataset]) -> Result<Survey, RunError> {
    let columns = "name,type,used,referenced,createtxg";
    let how = ["list", "-H", "-p", "-t", "all", "-d", "1", "-o", columns].map(str::to_owned);
    let names = datasets.iter().map(|dataset| dataset.as_str().to_owned());
    let stdout = run(host, zfs(how.into_iter().chain(names).collect(), LOOK)).await?;
    Ok(parse(&String::from_utf8_lossy(&stdout)))
}

/// Runs one to its good end.
pub async fn run(host: &Host, command: Command) -> Result<Vec<u8>, RunError> {
    host.runner.run(command.clone()).await?.success(&command)
}

fn parse(text: &str) -> Survey {
    let mut survey = Survey::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[name, kind, used, referenced, txg] = fields.as_slice() else { continue };
        let at = name.find(['@', '#']);
        let dataset = name.get(..at.unwrap_or(name.len())).unwrap_or_default();
        let volume = survey.entry(dataset.to_owned()).or_default();
        match at {
            None => {
                volume.is_volume = kind == "volume";
                volume.size = referenced.parse().ok();
            }
            Some(at) => volume.marks.push(Mark {
                name: name.get(at + 1..).unwrap_or_default().to_owned(),
                bookmark: kind == "bookmark",
                // One whose age is not known counts as newer than all.
                txg: txg.parse().unwrap_or(u64::MAX),
                used: used.parse().ok(),
            }),
        }
    }
    for volume in survey.values_mut() {
        volume.marks.sort_by_key(|mark| mark.txg);
    }
    survey
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dataset(name: &str) -> Dataset {
        Dataset::try_from(name.to_owned()).unwrap()
    }

    fn tag(name: &str) -> Tag {
        Tag::of(&name.parse().unwrap())
    }

    #[test]
    fn commands() {
        let both = [dataset("tank/a"), dataset("tank/b c")];
        let shown = [
            snapshot(&both, &tag("x")),
            destroy(&both[1], &tag("x")),
            rollback(&both[0], &tag("x"), false),
            rollback(&both[0], &tag("x"), true),
        ]
        .map(|command| command.to_string());
        insta::assert_snapshot!(shown.join("\n"), @r"
        zfs snapshot tank/a@hostd-x 'tank/b c@hostd-x'
        zfs destroy 'tank/b c@hostd-x'
        zfs rollback tank/a@hostd-x
        zfs rollback -r tank/a@hostd-x
        ");
    }

    #[test]
    fn reads_what_zfs_lists() {
        let survey = parse(
            "tank/a\tvolume\t1000\t700\t10\n\
             tank/a@late\tsnapshot\t0\t700\t40\n\
             tank/a@hostd-x\tsnapshot\t5\t600\t20\n\
             tank/a#mark\tbookmark\t-\t-\t30\n\
             tank/a@early\tsnapshot\t0\t1\t15\n\
             tank/fs\tfilesystem\t9\t9\t1\nnonsense\n",
        );
        let volume = &survey["tank/a"];
        assert!(volume.is_volume && !survey["tank/fs"].is_volume);
        assert_eq!(volume.size, Some(700));
        assert_eq!(volume.find(&tag("x")).unwrap().used, Some(5));
        let newer: Vec<_> = volume.newer(&tag("x")).iter().map(|mark| &mark.name).collect();
        assert_eq!(newer, ["mark", "late"]);
        assert_eq!(volume.find(&tag("y")), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[a@#\t\n0-9 ä]{0,60}") {
            parse(&text);
        }

        /// Whatever anybody calls a snapshot, and whatever a note names as the
        /// dataset: what is destroyed is a snapshot of ours.
        #[test]
        fn only_snapshots_of_ours_are_destroyed(name in ".{0,70}", dataset in ".{0,70}") {
            if let (Ok(name), Ok(dataset)) = (name.parse(), Dataset::try_from(dataset)) {
                let command = destroy(&dataset, &Tag::of(&name));
                prop_assert_eq!(command.args.len(), 2);
                let what = command.args[1].to_str().unwrap();
                let (_, tag) = what.split_once('@').unwrap();
                prop_assert!(tag.starts_with("hostd-"));
                prop_assert!(!what.starts_with('-') && !what.contains([',', '%', '#']));
                prop_assert!(!tag.contains(['@', '/']));
            }
        }
    }
}

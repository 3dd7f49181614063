//! Snapshots inside qcow2 images of VMs that do not run: `qemu-img`. QEMU has
//! the images of those that do, and is asked itself then.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::note::Tag;
use crate::host::Host;
use crate::host::run::{Command, RunError};

/// How long looking may take.
const LOOK: Duration = Duration::from_secs(7);
/// How long the rest may take: it goes through all tables of the image.
const ACT: Duration = Duration::from_secs(600);

/// What is done with a snapshot inside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Make it.
    Make,
    /// Take the image back to it.
    Apply,
    /// Remove it.
    Delete,
}

/// The command for it.
pub fn act(act: Act, tag: &Tag, image: &Path) -> Command {
    let how = match act {
        Act::Make => "-c",
        Act::Apply => "-a",
        Act::Delete => "-d",
    };
    let args: [OsString; 4] = ["snapshot".into(), how.into(), tag.as_str().into(), image.into()];
    Command::new("qemu-img", args).deadline(ACT)
}

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Image {
    /// Its snapshots; QEMU leaves the key out when there are none.
    #[serde(default)]
    pub snapshots: Vec<Inside>,
    /// Bytes that it takes.
    #[serde(default, rename = "actual-size")]
    pub size: Option<u64>,
}

/// A snapshot inside an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Inside {
    /// Its name.
    pub name: String,
}

impl Image {
    /// Whether the image has this snapshot.
    pub fn has(&self, tag: &Tag) -> bool {
        self.snapshots.iter().any(|inside| inside.name == tag.as_str())
    }
}

/// Looks into an image, also into one that QEMU has open.
pub async fn look(host: &Host, image: &Path) -> Result<Image, String> {
    let how = ["info", "--output=json", "--force-share", "-f", "qcow2"].map(OsString::from);
    let args = how.into_iter().chain([image.into()]);
    let command = Command::new("qemu-img", args).deadline(LOOK);
    let stdout = run(host, command).await.map_err(|error| crate::base::with_sources(&error))?;
    serde_json::from_slice(&stdout)
        .map_err(|error| format!("what qemu-img says of {} is odd: {error}", image.display()))
}

/// Runs one to its good end.
pub async fn run(host: &Host, command: Command) -> Result<Vec<u8>, RunError> {
    host.runner.run(command.clone()).await?.success(&command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_answers() {
        let tag = Tag::of(&"x".parse().unwrap());
        let shown = act(Act::Delete, &tag, Path::new("/srv/a b.qcow2")).to_string();
        assert_eq!(shown, "qemu-img snapshot -d hostd-x '/srv/a b.qcow2'");
        // As qemu-img 7.2 wrote it.
        let text = r#"{"virtual-size": 1048576, "snapshots": [{"vm-clock-nsec": 0,
            "name": "hostd-x", "date-sec": 1795400000, "id": "1", "vm-state-size": 0}],
            "cluster-size": 65536, "format": "qcow2", "actual-size": 200704}"#;
        let image: Image = serde_json::from_str(text).unwrap();
        assert!(image.has(&tag) && !image.has(&Tag::of(&"y".parse().unwrap())));
        assert_eq!(image.size, Some(200_704));
        assert_eq!(serde_json::from_str::<Image>("{}").unwrap(), Image::default());
    }
}

//! From what is there and what should be to the changes between. Pure.

use std::collections::BTreeMap;

use similar::TextDiff;

use super::files::{DRACUT, File, HOOK, MARK, MODPROBE, OWN, RULE};
use super::journal::Setup;
use super::text::Text;
use super::words::{
    CMDLINE_FILE, GRUB_FILE, cmdline_add, cmdline_remove, grub_add, grub_remove, grub_remove_any,
};

/// Every file that may be looked at: its text now, and its mode.
pub type Texts = BTreeMap<String, (Text, u32)>;

/// What should be there; empty for a removal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Files of ours.
    pub files: Vec<File>,
    /// Words for a line in `/etc/default/grub`.
    pub grub: Vec<String>,
    /// Words for `/etc/kernel/cmdline`.
    pub cmdline: Vec<String>,
}

/// One file to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: String,
    /// Its text now; `None` when it is not there.
    pub before: Option<Text>,
    /// Its text then; `None` when it is to go.
    pub after: Option<Text>,
    /// Permission bits then.
    pub mode: u32,
    /// Permission bits now.
    pub mode_before: u32,
    /// Whose the present text is, if not ours: it is kept.
    pub keep: bool,
}

/// All changes, and what to know of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// In the order they are made.
    pub files: Vec<Change>,
    /// What is not as a person may expect.
    pub warnings: Vec<String>,
    /// Files of others that hold words of ours afterwards.
    pub edited: Vec<String>,
}

/// A file at a place of ours that is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign(pub String);

impl Change {
    /// As a patch.
    pub fn diff(&self) -> String {
        let text = |text: &Option<Text>| text.as_ref().map_or(String::new(), |t| t.as_str().into());
        let name = |there: bool| if there { self.path.as_str() } else { "/dev/null" };
        let patch = TextDiff::from_lines(&text(&self.before), &text(&self.after))
            .unified_diff()
            .header(name(self.before.is_some()), name(self.after.is_some()))
            .to_string();
        if self.before.is_none() || self.after.is_none() || self.mode == self.mode_before {
            return patch;
        }
        // As git shows it, with the path for a patch that has nothing else.
        let path = &self.path;
        format!(
            "diff --git a{path} b{path}\nold mode 100{:03o}\nnew mode 100{:03o}\n{patch}",
            self.mode_before, self.mode
        )
    }
}

impl Changes {
    /// Whether one of these files changes.
    fn touches(&self, paths: &[&str]) -> bool {
        self.files.iter().any(|change| paths.contains(&change.path.as_str()))
    }

    /// Whether the initramfs has to be built anew.
    pub fn initramfs(&self) -> bool {
        self.touches(&[RULE, MODPROBE, HOOK, DRACUT])
    }

    /// Whether the boot loader's entries have to be made anew.
    pub fn loader(&self) -> bool {
        self.touches(&[super::files::GRUB, GRUB_FILE, CMDLINE_FILE])
    }
}

/// What has to change so that `wanted` is there and nothing else of ours.
pub fn changes(wanted: &Wanted, now: &Texts, setup: Option<&Setup>) -> Result<Changes, Foreign> {
    let mut changes = Changes::default();
    for path in OWN {
        let file = wanted.files.iter().find(|file| file.path == path);
        own(&mut changes, path, file, now.get(path), setup)?;
    }
    let ours = setup.map_or(&[][..], |setup| &setup.words);
    let had = |path: &str| setup.is_some_and(|setup| setup.edited.iter().any(|at| at == path));
    if let Some((text, mode)) = now.get(GRUB_FILE) {
        let bare = match setup {
            Some(_) => grub_remove(text.as_str(), ours),
            None => grub_remove_any(text.as_str()),
        };
        let bare = bare.unwrap_or_else(|left| {
            changes.warnings.push(format!(
                "{GRUB_FILE}: somebody has written into hostd's line; their words stay"
            ));
            left
        });
        // A text that did not end in a newline and has lost our line is the same text.
        let after = match wanted.grub.as_slice() {
            [] => bare,
            words => grub_add(&bare, words),
        };
        edited(&mut changes, GRUB_FILE, text, after, *mode, !wanted.grub.is_empty());
    }
    if let Some((text, mode)) = now.get(CMDLINE_FILE) {
        let bare = if had(CMDLINE_FILE) {
            cmdline_remove(text.as_str(), ours)
        } else {
            text.as_str().to_owned()
        };
        if had(CMDLINE_FILE)
            && wanted.cmdline.is_empty()
            && bare == text.as_str()
            && !ours.is_empty()
        {
            let words = ours.join(" ");
            let gone =
                format!("{CMDLINE_FILE}: {words} is not there any more; nothing to take out");
            changes.warnings.push(gone);
        }
        let after = match wanted.cmdline.as_slice() {
            [] => Some(bare),
            words => cmdline_add(&bare, words),
        };
        match after {
            Some(after) => {
                edited(&mut changes, CMDLINE_FILE, text, after, *mode, !wanted.cmdline.is_empty());
            }
            None => changes.warnings.push(format!(
                "{CMDLINE_FILE} says nothing, or its quotes do not close: write there what \
                 /proc/cmdline says, and {}",
                wanted.cmdline.join(" ")
            )),
        }
    }
    Ok(changes)
}

fn own(
    changes: &mut Changes,
    path: &str,
    file: Option<&File>,
    now: Option<&(Text, u32)>,
    setup: Option<&Setup>,
) -> Result<(), Foreign> {
    let written = setup.and_then(|setup| setup.own.iter().find(|own| own.path == path));
    if let Some((text, _)) = now
        && written.is_none()
        && !text.as_str().lines().any(|line| line == MARK)
    {
        // Not ours, and in nobody's way unless we want the place.
        return if file.is_some() { Err(Foreign(path.to_owned())) } else { Ok(()) };
    }
    let same = match (file, now) {
        (Some(file), Some((text, mode))) => file.text == text.as_str() && file.mode == *mode,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    if same {
        return Ok(());
    }
    let strange = match (now, written) {
        (Some((text, _)), Some(written)) => written.text != text.as_str(),
        (Some(_) | None, None) | (None, Some(_)) => false,
    };
    if strange {
        let what = if file.is_some() { "is written anew" } else { "is removed all the same" };
        changes.warnings.push(format!("{path} was changed since hostd made it; it {what}"));
    }
    changes.files.push(Change {
        path: path.to_owned(),
        before: now.map(|(text, _)| text.clone()),
        after: file.map(|file| file.text.clone().into()),
        mode: file.map_or(0o644, |file| file.mode),
        mode_before: now.map_or(0o644, |(_, mode)| *mode),
        keep: strange,
    });
    Ok(())
}

fn edited(changes: &mut Changes, path: &str, before: &Text, after: String, mode: u32, ours: bool) {
    if ours {
        changes.edited.push(path.to_owned());
    }
    if after != before.as_str() {
        changes.files.push(Change {
            path: path.to_owned(),
            before: Some(before.clone()),
            after: Some(before.with(after)),
            mode,
            mode_before: mode,
            keep: true,
        });
    }
}

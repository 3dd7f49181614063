//! The lines of `/proc/PID/mountinfo`, `proc_pid_mountinfo(5)`: number, parent,
//! device, root, mount point, options, optional fields, `-`, type, source, options
//! of the file system.

use super::octal;

/// A line as it is written: with octal escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Number of its device, which its bind mounts share.
    pub device: &'a str,
    /// Where it is.
    pub point: &'a str,
    /// `ext4`.
    pub kind: &'a str,
    /// `/dev/sda1`, `tank/media`.
    pub source: &'a str,
    /// Those of the file system, not of this mount.
    pub options: &'a str,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Number of its device, which its bind mounts share.
    pub device: String,
    /// Where it is.
    pub point: String,
    /// `ext4`.
    pub kind: String,
    /// `/dev/sda1`, `tank/media`.
    pub source: String,
    /// The file system itself takes no writes.
    pub read_only: bool,
}

/// The mounts in their order, without the lines that are none.
pub fn mounts(text: &str) -> impl Iterator<Item = Mount> {
    lines(text).map(|line| Mount {
        device: line.device.to_owned(),
        point: octal(line.point),
        kind: line.kind.to_owned(),
        source: octal(line.source),
        read_only: line.options.split(',').any(|option| option == "ro"),
    })
}

/// The same, for who wants little of many.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(line)
}

/// `36 35 0:31 / /tank/media rw,noatime shared:1 - zfs tank/media rw,xattr`.
fn line(text: &str) -> Option<Line<'_>> {
    let (mount, file_system) = text.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let (device, _, point) = (mount.next()?, mount.next()?, mount.next()?);
    let mut words = file_system.split(' ');
    let (kind, source) = (words.next()?, words.next()?);
    let options = words.next().unwrap_or_default();
    Some(Line { device, point, kind, source, options })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_table_is_read() {
        let text = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            31 30 0:41 / /tank/my\\040media ro shared:2 master:1 - zfs tank/m\\040x rw,xattr\n\
            32 22 0:42 /sub /ro rw - ext4 /dev/sdb ro,errors=continue\n\
            33 22 0:43 / /short rw - tmpfs tmpfs\nrubbish\n\n- - -\n";
        let all: Vec<Mount> = mounts(text).collect();
        let points: Vec<&str> = all.iter().map(|mount| mount.point.as_str()).collect();
        assert_eq!(points, ["/", "/tank/my media", "/ro", "/short"]);
        assert_eq!((all[1].kind.as_str(), all[1].source.as_str()), ("zfs", "tank/m x"));
        assert_eq!((all[2].device.as_str(), all[0].read_only), ("0:42", false));
        // The first options are those of the mount alone.
        assert_eq!((all[1].read_only, all[2].read_only), (false, true));
    }

    proptest! {
        #[test]
        fn never_panics(text in "([\\PC\\\\0-9 /-]{0,60}\n?){0,9}", path in "[\\\\0-9a]{0,12}") {
            prop_assert!(mounts(&text).count() <= text.lines().count());
            let like = format!("1 1 0:1 / /{path} rw - ext4 {text} rw");
            prop_assert!(mounts(&like).count() <= like.lines().count());
        }
    }
}

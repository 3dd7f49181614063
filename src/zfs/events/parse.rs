//! Both forms of an event: a datagram of lines `key=value` (what
//! [`zedlet`](super::zedlet) sends), and the blocks of `zpool events -Hv`. Pure.
//!
//! A block, as `zpool_do_events_next` in OpenZFS' `cmd/zpool/zpool_main.c` prints
//! it: a line `TIME<tab>CLASS`, the payload indented by 8 (`name = value`, strings
//! in quotes, numbers as `0x…`, nested lists deeper and between `(embedded
//! nvlist)` and `(end NAME)`), and an empty line. Before a block there may be
//! `dropped N events`.

use super::{Event, Heard};
use crate::base::Timestamp;
use crate::zfs::fields::clean;

/// More than the keys we know with their longest values.
pub const DATAGRAM: usize = 8 << 10;
/// The longest value: a path.
const VALUE: usize = 1024;
/// How the payload is indented.
const INDENT: usize = 8;

/// Reads a datagram; `None` when it names no class.
pub fn datagram(bytes: &[u8]) -> Option<Event> {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(DATAGRAM))?);
    let mut event = Event::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        match key {
            "class" => event.class = word(value),
            "time_secs" => event.time = seconds(value),
            _ => payload(&mut event, key, value),
        }
    }
    (!event.class.is_empty()).then_some(event)
}

/// Makes events of the lines of `zpool events -Hv`.
#[derive(Debug, Default)]
pub struct Blocks(Option<Event>);

impl Blocks {
    /// Takes one line; may complete an event.
    pub fn line(&mut self, line: &[u8]) -> Option<Heard> {
        let line = String::from_utf8_lossy(line);
        let inner = line.trim_start_matches(' ');
        match line.len() - inner.len() {
            0 if inner.is_empty() => self.0.take().map(Heard::Event),
            0 if inner.starts_with("dropped ") => Some(Heard::Lost),
            0 => {
                let class = inner.rsplit(['\t', ' ']).next().map(word).unwrap_or_default();
                let before = self.0.replace(Event { class, ..Event::default() });
                before.map(Heard::Event)
            }
            INDENT => {
                if let (Some(event), Some((key, value))) = (&mut self.0, inner.split_once(" = ")) {
                    match key {
                        "time" => event.time = value.split(' ').next().and_then(seconds),
                        _ => payload(event, key, value),
                    }
                }
                None
            }
            // Part of something nested, whose names mean other things.
            _ => None,
        }
    }
}

fn payload(event: &mut Event, key: &str, value: &str) {
    let text = || Some(word(value)).filter(|text| !text.is_empty());
    match key {
        "pool" => event.pool = text(),
        "eid" => event.eid = number(value),
        "vdev_guid" => event.vdev_guid = number(value),
        "vdev_path" => event.vdev_path = text(),
        _ => {}
    }
}

/// A value without its quotes and control characters, cut.
fn word(value: &str) -> String {
    let value = value.trim();
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    clean(&inner.chars().take(VALUE).collect::<String>())
}

fn number(value: &str) -> Option<u64> {
    let value = value.trim();
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

fn seconds(value: &str) -> Option<Timestamp> {
    number(value).and_then(|seconds| i64::try_from(seconds).ok()).map(Timestamp::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// In the form of the source that is named above.
    const CHECKSUM: &str = concat!(
        "Nov 23 2026 06:17:02.123456789\tereport.fs.zfs.checksum\n",
        "        class = \"ereport.fs.zfs.checksum\"\n",
        "        ena = 0x4f5b1c2d00001\n",
        "        detector = (embedded nvlist)\n",
        "                version = 0x0\n",
        "                scheme = \"zfs\"\n",
        "                pool = 0x8b61f39f0d2f26f6\n",
        "                vdev = 0x1\n",
        "        (end detector)\n",
        "        pool = \"my tank\"\n",
        "        pool_guid = 0x8b61f39f0d2f26f6\n",
        "        pool_state = 0x0\n",
        "        vdev_guid = 0xd2f26f60d2f26f61\n",
        "        vdev_path = \"/dev/disk/by-id/virtio-disk2-part1\"\n",
        "        vdev_state = \"ONLINE\" (0x7)\n",
        "        time = 0x6553f100 0x75bcd15 \n",
        "        eid = 0x2a\n",
        "\n"
    );

    fn heard(text: &str) -> Vec<Heard> {
        let mut blocks = Blocks::default();
        text.split('\n').filter_map(|line| blocks.line(line.as_bytes())).collect()
    }

    fn checksum() -> Event {
        Event {
            class: "ereport.fs.zfs.checksum".into(),
            pool: Some("my tank".into()),
            eid: Some(42),
            time: Some(Timestamp::from_secs(0x6553_f100)),
            vdev_guid: Some(0xd2f2_6f60_d2f2_6f61),
            vdev_path: Some("/dev/disk/by-id/virtio-disk2-part1".into()),
        }
    }

    #[test]
    fn reads_the_blocks_of_zpool_events() {
        assert_eq!(heard(CHECKSUM), [Heard::Event(checksum())]);
        let two = format!("dropped 3 events\n{CHECKSUM}{CHECKSUM}");
        assert_eq!(heard(&two).len(), 3);
        assert_eq!(heard(&two)[0], Heard::Lost);
        // A block without its end is told when the next one begins.
        let cut = "x\tresource.fs.zfs.statechange\n        pool = \"a\"\nx\tb\n\n";
        assert_eq!(heard(cut).len(), 2);
        assert_eq!(heard("\n\n        pool = \"tank\"\n"), []);
    }

    #[test]
    fn reads_what_the_zedlet_sends() {
        let text = "class=ereport.fs.zfs.checksum\npool=my tank\neid=42\ntime_secs=1700000000\n\
                    vdev_guid=0xD2F26F60D2F26F61\nvdev_path=/dev/disk/by-id/virtio-disk2-part1\n\
                    other=thing\nrubbish\n";
        assert_eq!(datagram(text.as_bytes()), Some(checksum()));
        assert_eq!(datagram(b"pool=tank\n"), None);
        assert_eq!(datagram(b""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_bounded(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = datagram(&bytes);
            let mut blocks = Blocks::default();
            for line in bytes.split(|byte| *byte == b'\n') {
                let _ = blocks.line(line);
            }
        }

        #[test]
        fn any_payload_is_read_and_bounded(
            lines in "(( {0,9}|[a-z]{1,9}=)(class|pool|eid|time|vdev_path)? ?=? ?[\\PC]{0,30}\n){0,20}",
            long in 0_usize..3000,
        ) {
            let text = format!("x\tclass\n        vdev_path = \"{}\"\n{lines}\n\n", "é".repeat(long));
            for heard in heard(&text) {
                if let Heard::Event(event) = heard {
                    prop_assert!(event.vdev_path.unwrap_or_default().chars().count() <= VALUE);
                }
            }
        }
    }
}

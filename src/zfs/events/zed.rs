//! Whether zed, the event daemon of OpenZFS, runs here.

use crate::host::SysRoot;

/// Where zed writes its number.
const PID_FILE: &str = "/run/zed.pid";

/// The number of the zed that runs; `None` when none does. A file that an ended
/// zed has left behind names no process, or one of another name.
pub fn running(sys: &SysRoot) -> Option<u32> {
    let text = sys.bytes(PID_FILE, 64).ok()?;
    let pid = parse(&String::from_utf8_lossy(&text))?;
    let name = sys.bytes(format!("/proc/{pid}/comm"), 64).ok()?;
    (name.trim_ascii() == b"zed").then_some(pid)
}

fn parse(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn a_file_that_was_left_behind_is_no_zed() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let sys = fake.host().sys;
        assert_eq!(running(&sys), None);
        fake.file("/run/zed.pid", "  812\n").unwrap();
        assert_eq!(running(&sys), None);
        fake.file("/proc/812/comm", "bash\n").unwrap();
        assert_eq!(running(&sys), None);
        fake.file("/proc/812/comm", "zed\n").unwrap();
        assert_eq!(running(&sys), Some(812));
        for bad in ["", "0", "-1", "812 813", "99999999999"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}

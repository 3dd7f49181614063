//! What shares the person's terminal with the lab.

use anyhow::{Context, Result};
use hostd_lab::Lab;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    time::Duration,
};

/// The terminal as it was, when this goes.
struct Raw(Termios);

impl Raw {
    fn new() -> Result<Option<Self>> {
        let stdin = std::io::stdin();
        if !isatty(&stdin) {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn size() -> (u16, u16) {
    tcgetwinsize(std::io::stdout()).map_or((24, 80), |size| (size.ws_row.max(1), size.ws_col.max(1)))
}

pub fn shell(lab: &Lab) -> Result<u8> {
    let client = lab.client()?;
    let input = File::from(rustix::io::dup(std::io::stdin())?);
    let raw = Raw::new()?;
    let status = client.terminal("cd /root; exec bash -l", input, std::io::stdout(), size);
    drop(raw);
    Ok(u8::try_from(status?).unwrap_or(1))
}

/// The console's log, from `lines` before its end, for as long as the lab runs.
pub fn console(lab: &Lab, lines: usize, follow: bool) -> Result<()> {
    let path = lab.dir().join("console.log");
    let mut file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    let length = file.metadata()?.len();
    println!("{}", lab.console_tail(lines));
    file.seek(SeekFrom::Start(length))?;
    while follow {
        let running = lab.running();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        std::io::stdout().write_all(&bytes)?;
        std::io::stdout().flush()?;
        if !running {
            eprintln!("lab: QEMU has ended");
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

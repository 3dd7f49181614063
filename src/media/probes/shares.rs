//! What a file server serves from where: `smb.conf`, `afp.conf`, `exports`,
//! `minidlna.conf`. Pure.
//!
//! Facts: smb.conf(5): keys without regard to case and blanks, `;` and `#`
//! begin comments, a backslash continues a line, `directory` is `path`;
//! afp.conf(5): the same form; exports(5): a path, in quotes or with `\040`
//! for its blanks, then the clients. Files that are included are not read, and
//! this is said.

use crate::ask::view::ShareView;
use crate::base::octal;

/// More shares than these are not taken.
pub const MAX: usize = 256;
/// The longest file that is read.
pub const MAX_FILE: u64 = 1 << 20;

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shares {
    /// In their order.
    pub shares: Vec<ShareView>,
    /// What was left out.
    pub notes: Vec<String>,
}

impl Shares {
    fn add(&mut self, name: &str, path: &str) {
        let good = path.starts_with('/') && path.len() < 4096 && !path.contains(char::is_control);
        if !good || name.is_empty() || name.len() > 255 || name.contains(char::is_control) {
            return;
        }
        if self.shares.len() >= MAX {
            self.note(format!("more than {MAX} shares: the rest is left out"));
        } else {
            self.shares.push(ShareView { name: name.to_owned(), path: path.to_owned() });
        }
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < 8 && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// Which dialect of the same form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ini {
    /// Samba's.
    Smb,
    /// Netatalk's.
    Afp,
}

#[derive(Default)]
struct Section {
    name: String,
    path: String,
    hidden: bool,
}

/// Reads `smb.conf` or `afp.conf`.
pub fn ini(kind: Ini, text: &str) -> Shares {
    let mut out = Shares::default();
    let mut section = Section::default();
    let mut held = String::new();
    for line in text.lines() {
        held.push_str(line.trim());
        // A comment that ends so goes on as well: so says smb.conf(5).
        if held.ends_with('\\') && held.len() < 8192 {
            held.pop();
            continue;
        }
        let line = std::mem::take(&mut held);
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            close(&mut out, &section);
            let name = name.split(']').next().unwrap_or_default().trim().to_owned();
            section = Section { name, ..Section::default() };
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let key: String = key.chars().filter(|c| !c.is_whitespace()).collect();
        let value = value.trim().trim_matches('"');
        let yes = matches!(value.to_ascii_lowercase().as_str(), "yes" | "true" | "1" | "on");
        match key.to_ascii_lowercase().as_str() {
            "path" => value.clone_into(&mut section.path),
            "directory" if kind == Ini::Smb => value.clone_into(&mut section.path),
            "printable" | "printok" if yes => section.hidden = true,
            "available" if !yes => section.hidden = true,
            "include" | "configfile" | "copy" | "volpreset" => {
                out.note(format!("`{key}` is not followed"));
            }
            _ => {}
        }
    }
    close(&mut out, &section);
    out
}

fn close(out: &mut Shares, section: &Section) {
    let lower = section.name.to_ascii_lowercase();
    if section.hidden || matches!(lower.as_str(), "global" | "homes" | "printers") {
        return;
    }
    out.add(&section.name, &section.path);
}

/// Reads `exports` or a file of `exports.d`; what is shared is called by its path.
pub fn exports(text: &str) -> Shares {
    let mut out = Shares::default();
    let mut held = String::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        held.push_str(line);
        if held.ends_with('\\') && held.len() < 8192 {
            held.pop();
            continue;
        }
        let line = std::mem::take(&mut held);
        let line = line.trim();
        let path = match line.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap_or_default().to_owned(),
            None => octal(line.split_whitespace().next().unwrap_or_default()),
        };
        if !out.shares.iter().any(|share| share.path == path) {
            out.add(&path, &path);
        }
    }
    out
}

/// Reads `minidlna.conf`: `media_dir=V,/tank/films`, where the letters say of
/// which kind its files are.
pub fn minidlna(text: &str) -> Shares {
    let mut out = Shares::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        if key.trim() != "media_dir" {
            continue;
        }
        let value = value.trim();
        let path = match value.split_once(',') {
            Some((kinds, path)) if kinds.bytes().all(|b| b"AVP".contains(&b)) => path.trim(),
            _ => value,
        };
        out.add(path, path);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(shares: &Shares) -> Vec<String> {
        shares.shares.iter().map(|share| format!("{}={}", share.name, share.path)).collect()
    }

    #[test]
    fn reads_smb_conf() {
        let text = "[global]\n  workgroup = WORKGROUP\n  include = /etc/samba/more.conf\n\
            # [old]\n[homes]\n  browseable = no\n[printers]\n path = /var/tmp\n printable = yes\n\
            [Media Files]\n   P A T H = /tank/\\\n   media\n[off]\npath=/x\navailable = no\n\
            [users]\n Directory = /tank/users/%U\n[odd]\npath = relative\n";
        let read = ini(Ini::Smb, text);
        assert_eq!(shown(&read), ["Media Files=/tank/media", "users=/tank/users/%U"]);
        assert_eq!(read.notes, ["`include` is not followed"]);
    }

    #[test]
    fn reads_afp_conf() {
        let text = "[Global]\nmimic model = Xserve\n[Homes]\nbasedir regex = /home\n\
            [Time Machine]\npath = /tank/tm\ntime machine = yes\n";
        assert_eq!(shown(&ini(Ini::Afp, text)), ["Time Machine=/tank/tm"]);
    }

    #[test]
    fn reads_minidlna_conf() {
        let text = "#media_dir=/old\nport=8200\nmedia_dir=V,/tank/films\nmedia_dir=/tank/a,b\n";
        assert_eq!(shown(&minidlna(text)), ["/tank/films=/tank/films", "/tank/a,b=/tank/a,b"]);
    }

    #[test]
    fn reads_exports() {
        let text = "# comment\n/tank/media 10.0.0.0/8(ro) \\\n  host(rw)\n\"/tank/a b\" *\n\
            /tank/c\\040d *(ro)\n/tank/media other\nrelative *\n";
        let read: Vec<_> = exports(text).shares.into_iter().map(|share| share.path).collect();
        assert_eq!(read, ["/tank/media", "/tank/a b", "/tank/c d"]);
    }

    proptest! {
        #[test]
        fn never_panics_and_is_bounded(text in "[\\PC\n\\[\\]=/\\\\\"]{0,400}") {
            for shares in [ini(Ini::Smb, &text), ini(Ini::Afp, &text), exports(&text), minidlna(&text)] {
                prop_assert!(shares.shares.len() <= MAX && shares.notes.len() <= 8);
                prop_assert!(shares.shares.iter().all(|share| share.path.starts_with('/')));
            }
        }

        #[test]
        fn many_are_cut(count in 250usize..300) {
            let text = (0..count).map(|n| format!("[s{n}]\npath=/s{n}\n")).collect::<Vec<_>>().concat();
            let read = ini(Ini::Smb, &text);
            prop_assert_eq!(read.shares.len(), count.min(MAX));
            prop_assert_eq!(read.notes.is_empty(), count <= MAX);
        }
    }
}

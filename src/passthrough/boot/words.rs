//! Words put into files of others and taken out again: the kernel's command
//! line in `/etc/kernel/cmdline`, and GRUB's settings where it reads no folder
//! of them. Pure; nothing else in the text moves.

use super::super::safe::words;

/// GRUB's settings, a shell script that `grub-mkconfig` sources.
pub const GRUB_FILE: &str = "/etc/default/grub";
/// The command line that kernel-install and Proxmox's boot tool put into entries.
pub const CMDLINE_FILE: &str = "/etc/kernel/cmdline";

/// Every word that hostd may give to a kernel, in this order.
pub const WORDS: [&str; 2] = ["intel_iommu=on", "iommu=pt"];

const ABOVE: &str = "# Made by hostd: `hostctl boot remove` takes this and the next line out.";
const LINE: &str = "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX ";

/// `/etc/default/grub` with a line of ours at its end. A line of its own leaves
/// the owner's quoting alone: the shell joins them.
pub fn grub_add(text: &str, add: &[String]) -> String {
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{newline}{ABOVE}\n{LINE}{}\"\n", add.join(" "))
}

/// The same without our line; `Err` has what is left when somebody has written
/// into our line: their words stay.
pub fn grub_remove(text: &str, ours: &[String]) -> Result<String, String> {
    let mut left = Vec::new();
    let mut out = String::new();
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let next =
            lines.peek().and_then(|next| next.trim_end().strip_prefix(LINE)?.strip_suffix('"'));
        let (true, Some(inside)) = (line.trim_end() == ABOVE, next) else {
            out += line;
            continue;
        };
        let theirs: Vec<&str> =
            words(inside).filter(|word| !ours.iter().any(|our| our == word)).collect();
        if !theirs.is_empty() {
            out.extend([LINE, &theirs.join(" "), "\"\n"]);
            left.extend(theirs);
        }
        lines.next();
    }
    if left.is_empty() { Ok(out) } else { Err(out) }
}

/// The same where no record tells which words are ours: in our own line all
/// that we may have written are.
pub fn grub_remove_any(text: &str) -> Result<String, String> {
    grub_remove(text, &WORDS.map(str::to_owned))
}

/// The range of the one line that counts: the first that says something.
fn content(text: &str) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let said = line.trim_end();
        if !said.trim_start().is_empty() && !said.trim_start().starts_with('#') {
            return Some(start..start + said.len());
        }
        start += line.len();
    }
    None
}

/// `/etc/kernel/cmdline` with words at the end of its line; `None` when it has
/// none, or its quotes do not close.
pub fn cmdline_add(text: &str, add: &[String]) -> Option<String> {
    let line = content(text)?;
    // Behind an open quote our words would be part of the owner's.
    if text[line.clone()].matches('"').count() % 2 == 1 {
        return None;
    }
    let more = add.join(" ");
    let space = if more.is_empty() { "" } else { " " };
    Some(format!("{}{space}{more}{}", &text[..line.end], &text[line.end..]))
}

/// The same without our words, each taken out once, the last one first.
pub fn cmdline_remove(text: &str, ours: &[String]) -> String {
    let Some(line) = content(text) else { return text.to_owned() };
    let mut said = text[line.clone()].to_owned();
    for our in ours.iter().rev() {
        let start = said.as_ptr() as usize;
        let at = words(&said)
            .filter(|word| *word == our.as_str())
            .last()
            .map(|word| word.as_ptr() as usize - start);
        if let Some(at) = at {
            // With the space that came before it.
            let from = if at > 0 { at - 1 } else { at };
            said.replace_range(from..at + our.len(), "");
        }
    }
    format!("{}{said}{}", &text[..line.start], &text[line.end..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn both() -> Vec<String> {
        vec!["intel_iommu=on".into(), "iommu=pt".into()]
    }

    const DEBIAN: &str = "# comment\nGRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX='a=\"b c\"'\n";

    #[test]
    fn grub_gets_a_line_and_loses_it() {
        let with = grub_add(DEBIAN, &both());
        assert!(with.starts_with(DEBIAN));
        let line = "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX intel_iommu=on iommu=pt\"\n";
        assert!(with.ends_with(line), "{with}");
        assert_eq!(grub_remove(&with, &both()).unwrap(), DEBIAN);
    }

    #[test]
    fn what_the_owner_has_written_into_our_line_stays() {
        let with = grub_add(DEBIAN, &both()).replace("iommu=pt", "iommu=pt debug") + "GRUB_X=1\n";
        let left = grub_remove(&with, &both()).unwrap_err();
        let line = "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX debug\"\n";
        assert_eq!(left, format!("{DEBIAN}{line}GRUB_X=1\n"));
        assert_eq!(grub_remove_any(&with).unwrap_err(), left);
    }

    #[test]
    fn the_kernel_line_is_the_first_that_says_something() {
        let text = "# mine\nroot=UUID=x ro  \nsecond\n";
        let with = cmdline_add(text, &both()).unwrap();
        assert_eq!(with, "# mine\nroot=UUID=x ro intel_iommu=on iommu=pt  \nsecond\n");
        assert_eq!(cmdline_remove(&with, &both()), text);
        let changed = with.replace("ro intel_iommu=on", "rw intel_iommu=on debug");
        assert_eq!(cmdline_remove(&changed, &both()), text.replace(" ro", " rw debug"));
        assert_eq!(cmdline_add("# nothing\n\n", &both()), None);
        assert_eq!(cmdline_remove("iommu=pt", &both()), "");
    }

    proptest! {
        #[test]
        fn out_is_the_inverse_of_in(text in "([a-z=#\" ]{0,12}\n){0,4}[a-z=#\" ]{0,12}") {
            let with = grub_add(&text, &both());
            // No line of the owner is lost.
            prop_assert!(with.starts_with(&text));
            let back = grub_remove(&with, &both()).unwrap();
            prop_assert_eq!(back.trim_end_matches('\n'), text.trim_end_matches('\n'));
            if let Some(with) = cmdline_add(&text, &both()) {
                prop_assert_eq!(cmdline_remove(&with, &both()), text);
            }
        }

        #[test]
        fn any_text_is_taken(text in "\\PC{0,80}") {
            let _ = (grub_remove(&text, &both()), cmdline_add(&text, &both()));
            let _ = cmdline_remove(&text, &both());
        }
    }
}

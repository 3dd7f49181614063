//! What GRUB's settings give to the kernel, as far as it can be told without a
//! shell. Pure.

use super::super::safe::words;

const LINUX: &str = "GRUB_CMDLINE_LINUX";
const DEFAULT: &str = "GRUB_CMDLINE_LINUX_DEFAULT";

/// Text that names itself again and again would grow without end.
const LONGEST: usize = 1 << 16;

/// The kernel's words of both lists, as the shell would have them at the end.
/// `text` is `/etc/default/grub`, with the parts of `/etc/default/grub.d`
/// behind it where they are read.
pub fn kernel_words(text: &str) -> Vec<String> {
    let (mut linux, mut default) = (String::new(), String::new());
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let Some((name, value)) = line.split_once('=') else { continue };
        let (name, more) = name.strip_suffix('+').map_or((name, false), |name| (name, true));
        let own = match name {
            LINUX => &linux,
            DEFAULT => &default,
            _ => continue,
        };
        let (value, literal) = unquoted(value);
        let mut value = value.to_owned();
        // The longer name first: the other one is its beginning.
        for (variable, is) in [(DEFAULT, &default), (LINUX, &linux)] {
            if !literal {
                value = value.replace(&format!("${{{variable}}}"), is);
                value = value.replace(&format!("${variable}"), is);
            }
        }
        let value = if more { format!("{own}{value}") } else { value };
        let value: String = value.chars().take(LONGEST).collect();
        match name {
            LINUX => linux = value,
            _ => default = value,
        }
    }
    let both = format!("{linux} {default}");
    words(&both).map(str::to_owned).collect()
}

/// A shell's value without its quotes and the comment after it, and whether
/// nothing in it is replaced.
fn unquoted(value: &str) -> (&str, bool) {
    let value = value.trim();
    match value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        Some(quote) => (value.split(quote).nth(1).unwrap_or_default(), quote == '\''),
        None => (value.split_ascii_whitespace().next().unwrap_or_default(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_shell_is_followed_as_far_as_settings_go() {
        for (text, says) in [
            ("GRUB_CMDLINE_LINUX_DEFAULT=\"quiet iommu=pt\" # mine\n", &["quiet", "iommu=pt"][..]),
            ("# GRUB_CMDLINE_LINUX=iommu=pt\nGRUB_CMDLINE_LINUX='a'", &["a"]),
            ("GRUB_CMDLINE_LINUX=a\nGRUB_CMDLINE_LINUX+=\" iommu=pt\"\n", &["a", "iommu=pt"]),
            ("  export GRUB_CMDLINE_LINUX=iommu=pt\n", &["iommu=pt"]),
            (
                "GRUB_CMDLINE_LINUX=a\nGRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX b\"\n\
                 GRUB_CMDLINE_LINUX_DEFAULT=\"${GRUB_CMDLINE_LINUX_DEFAULT}c\"\n",
                &["a", "b", "c"],
            ),
            // The last one counts.
            ("GRUB_CMDLINE_LINUX=\"iommu=pt\"\nGRUB_CMDLINE_LINUX=\"\"\n", &[]),
            ("GRUB_CMDLINE_LINUX='$GRUB_CMDLINE_LINUX x'", &["$GRUB_CMDLINE_LINUX", "x"]),
            ("GRUB_TIMEOUT=1\n=\n", &[]),
        ] {
            assert_eq!(kernel_words(text), says, "{text}");
        }
    }

    #[test]
    fn a_default_file_is_read_as_its_shell_would() {
        let text = "GRUB_CMDLINE_LINUX_DEFAULT=quiet\n\
                    GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT iommu=pt\"\n\
                    GRUB_CMDLINE_LINUX_DEFAULT+=\" video=efifb:off\"\n\
                    # GRUB_CMDLINE_LINUX=\"never\"\n";
        assert_eq!(kernel_words(text).join(" "), "quiet iommu=pt video=efifb:off");
    }

    #[test]
    fn one_that_names_itself_does_not_grow_without_end() {
        let line = "GRUB_CMDLINE_LINUX=\"x$GRUB_CMDLINE_LINUX$GRUB_CMDLINE_LINUX\"\n";
        assert!(kernel_words(&line.repeat(60)).join(" ").len() <= 1 << 17);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "\\PC{0,80}", value in "\\PC{0,40}") {
            let _ = kernel_words(&text);
            let _ = kernel_words(&format!("GRUB_CMDLINE_LINUX={value}\n").repeat(3));
        }
    }
}

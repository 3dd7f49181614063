//! Keys by QEMU's names, and text as the keys that a US keyboard has for it.
//!
//! The names are those of `QKeyCode` in QEMU's qapi/ui.json, as of 7.2; later
//! ones only add to them.

use crate::ask::{Code, Refusal, Secret};
use crate::config::nearest;

/// The most keys that are pressed together.
const TOGETHER: usize = 6;
/// The most that is pressed one after the other.
const PRESSED: usize = 64;
/// The longest text.
const TEXT: usize = 512;
/// The longest time that a key is held, in milliseconds.
const HOLD: u32 = 10_000;

/// Keys that are pressed together.
pub type Chord = Vec<&'static str>;

/// What is pressed one after the other, and how long each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strokes {
    /// In this order.
    pub chords: Vec<Chord>,
    /// In milliseconds.
    pub hold: u32,
}

/// QEMU's names.
const CODES: &[&str] = &[
    "shift",
    "shift_r",
    "alt",
    "alt_r",
    "ctrl",
    "ctrl_r",
    "menu",
    "esc",
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "0",
    "minus",
    "equal",
    "backspace",
    "tab",
    "q",
    "w",
    "e",
    "r",
    "t",
    "y",
    "u",
    "i",
    "o",
    "p",
    "bracket_left",
    "bracket_right",
    "ret",
    "a",
    "s",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "semicolon",
    "apostrophe",
    "grave_accent",
    "backslash",
    "z",
    "x",
    "c",
    "v",
    "b",
    "n",
    "m",
    "comma",
    "dot",
    "slash",
    "asterisk",
    "spc",
    "caps_lock",
    "f1",
    "f2",
    "f3",
    "f4",
    "f5",
    "f6",
    "f7",
    "f8",
    "f9",
    "f10",
    "f11",
    "f12",
    "num_lock",
    "scroll_lock",
    "kp_divide",
    "kp_multiply",
    "kp_subtract",
    "kp_add",
    "kp_enter",
    "kp_decimal",
    "sysrq",
    "kp_0",
    "kp_1",
    "kp_2",
    "kp_3",
    "kp_4",
    "kp_5",
    "kp_6",
    "kp_7",
    "kp_8",
    "kp_9",
    "less",
    "print",
    "home",
    "pgup",
    "pgdn",
    "end",
    "left",
    "up",
    "down",
    "right",
    "insert",
    "delete",
    "stop",
    "again",
    "props",
    "undo",
    "front",
    "copy",
    "open",
    "paste",
    "find",
    "cut",
    "lf",
    "help",
    "meta_l",
    "meta_r",
    "compose",
    "pause",
    "ro",
    "hiragana",
    "henkan",
    "yen",
    "muhenkan",
    "katakanahiragana",
    "kp_comma",
    "kp_equals",
    "power",
    "sleep",
    "wake",
    "audionext",
    "audioprev",
    "audiostop",
    "audioplay",
    "audiomute",
    "volumeup",
    "volumedown",
    "mediaselect",
    "mail",
    "calculator",
    "computer",
    "ac_home",
    "ac_back",
    "ac_forward",
    "ac_refresh",
    "ac_bookmarks",
    "lang1",
    "lang2",
    "f13",
    "f14",
    "f15",
    "f16",
    "f17",
    "f18",
    "f19",
    "f20",
    "f21",
    "f22",
    "f23",
    "f24",
];

/// What people call them.
const ALIASES: &[(&str, &str)] = &[
    ("enter", "ret"),
    ("return", "ret"),
    ("escape", "esc"),
    ("space", "spc"),
    ("del", "delete"),
    ("ins", "insert"),
    ("pageup", "pgup"),
    ("pagedown", "pgdn"),
    ("control", "ctrl"),
    ("super", "meta_l"),
    ("win", "meta_l"),
    ("meta", "meta_l"),
    ("altgr", "alt_r"),
    ("printscreen", "print"),
];

/// What is to be pressed for these words and then this text.
pub fn strokes(keys: &[Secret], text: &Secret, hold: Option<u32>) -> Result<Strokes, Refusal> {
    let usage = |message: String, hint: &str| Refusal::new(Code::Usage, message, hint);
    let letters = text.reveal().chars().count();
    if keys.is_empty() && letters == 0 {
        return Err(usage("no key is named".to_owned(), "`ctrl-alt-delete`, or --text hello"));
    }
    if keys.len() > PRESSED || letters > TEXT {
        let message = format!("at most {PRESSED} keys and {TEXT} letters are pressed at once");
        return Err(usage(message, "press the rest with another command"));
    }
    // Text is typed fast, and a firmware looks rarely.
    let hold = hold.unwrap_or(if letters > 0 { 30 } else { 100 });
    if hold > HOLD {
        let message = format!("{hold} ms are too long");
        return Err(usage(message, "keys are held for at most 10 s"));
    }
    let mut chords: Vec<Chord> =
        keys.iter().map(|words| chord(words.reveal())).collect::<Result<_, _>>()?;
    for letter in text.reveal().chars() {
        chords.push(typed(letter).ok_or_else(|| {
            let message = format!("`{}` is on no key of a US keyboard", letter.escape_debug());
            usage(message, "type its key by name: `hostctl vm sendkey` with a key")
        })?);
    }
    // As long as a person would wait for it.
    let total = u64::from(hold) * 2 * chords.len() as u64;
    if total > 120_000 {
        let message = format!("that would take {} s", total / 1000);
        return Err(usage(message, "at most two minutes: hold the keys shorter, or press fewer"));
    }
    Ok(Strokes { chords, hold })
}

/// `ctrl-alt-delete`.
fn chord(words: &str) -> Result<Chord, Refusal> {
    let usage = |message: String, hint: String| Refusal::new(Code::Usage, message, hint);
    let names: Vec<&str> = words.split('-').take(TOGETHER + 1).collect();
    if names.len() > TOGETHER {
        let message = format!("more than {TOGETHER} keys at one time");
        return Err(usage(message, "put a space between keys that follow each other".to_owned()));
    }
    let mut chord = Chord::new();
    for name in names {
        let code = code(name).ok_or_else(|| {
            let all = CODES.iter().copied().chain(ALIASES.iter().map(|(alias, _)| *alias));
            let hint = match nearest(name, all) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "names are those of QEMU: ctrl, alt, delete, meta_l, ret, f1, minus; \
                         text goes with --text"
                    .to_owned(),
            };
            let name: String = name.chars().take(40).collect();
            usage(format!("there is no key `{}`", name.escape_debug()), hint)
        })?;
        if chord.contains(&code) {
            return Err(usage(format!("the key `{code}` twice at one time"), String::new()));
        }
        chord.push(code);
    }
    Ok(chord)
}

fn code(name: &str) -> Option<&'static str> {
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    let own = CODES.iter().copied().find(|code| is(code));
    own.or_else(|| ALIASES.iter().find(|(alias, _)| is(alias)).map(|(_, code)| *code))
}

/// The keys for a letter.
fn typed(letter: char) -> Option<Chord> {
    /// Without and with shift.
    const SIGNS: &[(char, char, &str)] = &[
        ('1', '!', "1"),
        ('2', '@', "2"),
        ('3', '#', "3"),
        ('4', '$', "4"),
        ('5', '%', "5"),
        ('6', '^', "6"),
        ('7', '&', "7"),
        ('8', '*', "8"),
        ('9', '(', "9"),
        ('0', ')', "0"),
        ('-', '_', "minus"),
        ('=', '+', "equal"),
        ('[', '{', "bracket_left"),
        (']', '}', "bracket_right"),
        (';', ':', "semicolon"),
        ('\'', '"', "apostrophe"),
        ('`', '~', "grave_accent"),
        ('\\', '|', "backslash"),
        (',', '<', "comma"),
        ('.', '>', "dot"),
        ('/', '?', "slash"),
    ];
    let plain = |code| Some(vec![code]);
    match letter {
        ' ' => return plain("spc"),
        '\n' => return plain("ret"),
        '\t' => return plain("tab"),
        _ => {}
    }
    if letter.is_ascii_alphabetic() {
        let key = code(letter.encode_utf8(&mut [0; 4]))?;
        return if letter.is_ascii_uppercase() { Some(vec!["shift", key]) } else { plain(key) };
    }
    SIGNS.iter().find_map(|(without, with, key)| match letter {
        letter if letter == *without => Some(vec![*key]),
        letter if letter == *with => Some(vec!["shift", *key]),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn press(keys: &[&str], text: &str) -> Result<Vec<String>, Refusal> {
        let keys: Vec<_> = keys.iter().map(|key| Secret::new(*key)).collect();
        let strokes = strokes(&keys, &Secret::new(text), None)?;
        Ok(strokes.chords.iter().map(|chord| chord.join("+")).collect())
    }

    #[test]
    fn keys_have_names() {
        let pressed = press(&["ctrl-alt-delete", "Win-R", "f12"], "").unwrap();
        assert_eq!(pressed, ["ctrl+alt+delete", "meta_l+r", "f12"]);
    }

    #[test]
    fn text_is_typed_as_on_a_us_keyboard() {
        let pressed = press(&["enter"], "Hi, a_b!\n").unwrap();
        let keys =
            ["ret", "shift+h", "i", "comma", "spc", "a", "shift+minus", "b", "shift+1", "ret"];
        assert_eq!(pressed, keys);
        for letter in ' '..='~' {
            assert!(typed(letter).is_some(), "{letter}");
        }
    }

    #[test]
    fn what_is_not_a_key_is_said_with_the_nearest() {
        let refused = press(&["ctrl-alt-delte"], "").unwrap_err();
        assert_eq!(refused.message, "there is no key `delte`");
        assert_eq!(refused.hint, "did you mean `delete`?");
        assert_eq!(press(&["a-a"], "").unwrap_err().message, "the key `a` twice at one time");
        assert_eq!(press(&[], "ä").unwrap_err().message, "`ä` is on no key of a US keyboard");
        for keys in [&[""][..], &["ctrl-"], &["a-b-c-d-e-f-g"], &["a"; 65], &[]] {
            assert_eq!(press(keys, "").unwrap_err().code, Code::Usage, "{keys:?}");
        }
        assert!(press(&[], &"a".repeat(TEXT + 1)).is_err());
        let (keys, none) = ([Secret::new("a")], Secret::default());
        assert_eq!(strokes(&keys, &none, Some(500)).unwrap().hold, 500);
        assert!(strokes(&keys, &none, Some(HOLD + 1)).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(keys: Vec<String>, text: String, hold: Option<u32>) {
            let keys: Vec<_> = keys.into_iter().map(Secret::new).collect();
            let _ = strokes(&keys, &Secret::new(text), hold);
        }
    }
}

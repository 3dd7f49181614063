//! Hints for words that are names to the grammar but were meant otherwise:
//! `==`, `AND`, `host=1`.

use super::error::QueryError;

/// Operators in the order in which they are looked for inside a name.
const OPERATORS: [(&str, &str); 9] = [
    ("==", "="),
    ("!=", "!="),
    ("<>", "!="),
    (">=", ">="),
    ("=>", ">="),
    ("<=", "<="),
    ("=", "="),
    ("<", "<"),
    (">", ">"),
];

/// If the name at `start` is probably not meant as a name: where and what it is.
pub(super) fn explain(text: &str, start: usize, name: &str) -> Option<QueryError> {
    let error = |at: usize, what: &str, hint: String| {
        Some(QueryError::new(text, start + at, what.to_owned()).hint(hint))
    };
    let spelling = match name {
        "==" | "===" => Some("="),
        "<>" => Some("!="),
        "=>" => Some(">="),
        "=<" => Some("<="),
        "&&" | "&" => Some("and"),
        "||" | "|" => Some("or"),
        "!" => Some("not"),
        _ => None,
    };
    if let Some(right) = spelling {
        return error(0, &format!("`{name}` is not an operator"), format!("write `{right}`"));
    }
    let lower = name.to_ascii_lowercase();
    if lower != name && matches!(lower.as_str(), "and" | "or" | "not" | "tagged") {
        let hint = format!("write `{lower}`, in small letters");
        return error(0, &format!("`{name}` is not an operator"), hint);
    }
    if let Some(rest) = name.strip_prefix('!').filter(|rest| !rest.contains(['=', '<', '>'])) {
        return error(0, "`!` does not negate", format!("write `not {}`", cut(rest)));
    }
    let (first, (written, right)) = name.char_indices().find_map(|(at, _)| {
        OPERATORS.iter().find(|(op, _)| name[at..].starts_with(op)).map(|op| (at, op))
    })?;
    let (left, after) = (&name[..first], &name[first + written.len()..]);
    let hint = match (left, after) {
        (_, "") => format!("write `{}{right} …`", spaced(left)),
        _ => format!("write `{}{right} {}`", spaced(left), cut(after)),
    };
    error(first, &format!("expected white space around `{right}`"), hint)
}

fn spaced(left: &str) -> String {
    if left.is_empty() { String::new() } else { format!("{} ", cut(left)) }
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_right_spelling() {
        for (name, offset, hint) in [
            ("==", 0, "write `=`"),
            ("AND", 0, "write `and`, in small letters"),
            ("Not", 0, "write `not`, in small letters"),
            ("host=1", 4, "write `host = 1`"),
            ("metric>=2", 6, "write `metric >= 2`"),
            ("state==", 5, "write `state = …`"),
            ("host=", 4, "write `host = …`"),
            (">2", 0, "write `> 2`"),
            ("a!=b", 1, "write `a != b`"),
            ("!host", 0, "write `not host`"),
            ("!host=1", 5, "write `!host = 1`"),
            ("&&", 0, "write `and`"),
        ] {
            let error = explain(name, 0, name).unwrap();
            assert_eq!((error.offset, error.hint.as_deref()), (offset, Some(hint)), "{name}");
        }
        for name in ["host", "and", "a.b-c", "Tag"] {
            assert_eq!(explain(name, 0, name), None, "{name}");
        }
    }
}

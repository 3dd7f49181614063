//! YAML text → [`Node`], by the parser's events, without recursion.
//!
//! The events, not serde, because a tree with the place of every key is what
//! lets one message list the mistakes of a whole file. What YAML allows and a
//! configuration does not need is refused in words: tags, merge keys, several
//! documents, keys that are not texts, the same key twice. Anchors and aliases
//! work, within a budget of nodes.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::problem::Problem;
use super::text::clip;
use super::tree::{Entry, Node, Place, Scalar, Value};

/// Levels of nesting; the format itself needs four.
const MAX_DEPTH: usize = 32;
/// Values in one file, repetitions by aliases included.
const MAX_NODES: usize = 50_000;

/// Reads one file. `None` when its syntax is wrong; other problems leave a tree
/// without the parts they are about.
pub fn parse(text: &str, problems: &mut dyn FnMut(Problem)) -> Option<Node> {
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let step = next
            .map_err(|e| Box::new(syntax(&e)))
            .and_then(|(event, span)| builder.take(event, &span, problems));
        match step {
            Ok(Go::On) => {}
            Ok(Go::Stop) => break,
            Err(problem) => {
                problems(*problem);
                return None;
            }
        }
    }
    Some(builder.root.filter(|root| !root.is_null()).unwrap_or_else(Node::empty))
}

/// Whether the rest of the events matters.
enum Go {
    On,
    Stop,
}

/// A collection that is still open.
struct Open {
    at: Place,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// The key whose value comes next.
        key: Option<Key>,
        seen: HashMap<String, Place>,
    },
}

/// A key that waits for its value; without a name when it was refused.
struct Key {
    name: Option<String>,
    at: Place,
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
}

impl Builder {
    fn take(
        &mut self,
        event: Event<'_>,
        span: &Span,
        problems: &mut dyn FnMut(Problem),
    ) -> Result<Go, Box<Problem>> {
        let at = place(span);
        if let Some(tag) = event.tag() {
            problems(Problem::new(
                span.tag_span().as_ref().map_or(at, place),
                "",
                format!("the tag `{}` is not used here", clip(&tag.original())),
                "leave it out",
            ));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                // An absent value comes as an empty span.
                let text = if plain && span.is_empty() { String::new() } else { text.into_owned() };
                let kind = if plain { resolve(&text) } else { Scalar::Text };
                self.put(Node { at, value: Value::Scalar(kind, text) }, anchor, problems)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open(at, anchor, OpenKind::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, _) => {
                let (entries, seen) = (Vec::new(), HashMap::new());
                self.open(at, anchor, OpenKind::Map { entries, key: None, seen })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { at, anchor, kind }) = self.stack.pop() {
                    let value = match kind {
                        OpenKind::List(items) => Value::List(items),
                        OpenKind::Map { entries, .. } => Value::Map(entries),
                    };
                    self.put(Node { at, value }, anchor, problems)?;
                }
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    let message = "this alias stands inside what it repeats";
                    return Err(Problem::new(at, "", message, "write the value out").into());
                };
                let node = node.clone();
                self.charge(node.count(), at)?;
                if self.stack.len() + node.depth() > MAX_DEPTH {
                    return Err(too_deep(at).into());
                }
                self.put(node, 0, problems)?;
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                problems(Problem::new(
                    at,
                    "",
                    "a second document begins here; a configuration file has one",
                    "remove the line `---` and what repeats",
                ));
                return Ok(Go::Stop);
            }
            // Stream and document marks. Comments and unresolved aliases are
            // switched off, and the enum may grow.
            _ => {}
        }
        Ok(Go::On)
    }

    fn open(&mut self, at: Place, anchor: usize, kind: OpenKind) -> Result<(), Box<Problem>> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(at).into());
        }
        self.stack.push(Open { at, anchor, kind });
        Ok(())
    }

    fn charge(&mut self, nodes: usize, at: Place) -> Result<(), Box<Problem>> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        let message = format!("more than {MAX_NODES} values, counting what aliases repeat");
        Err(Problem::new(at, "", message, "a configuration needs a few hundred").into())
    }

    /// A complete node goes to the collection that is open.
    fn put(
        &mut self,
        node: Node,
        anchor: usize,
        problems: &mut dyn FnMut(Problem),
    ) -> Result<(), Box<Problem>> {
        self.charge(1, node.at)?;
        if anchor != 0 {
            self.charge(node.count(), node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map { entries, key, seen }) => match key.take() {
                None => *key = Some(self::key(node, seen, problems)),
                Some(Key { name: Some(name), at }) => {
                    entries.push(Entry { key: name, at, value: node });
                }
                Some(Key { name: None, .. }) => {}
            },
        }
        Ok(())
    }
}

fn key(node: Node, seen: &mut HashMap<String, Place>, problems: &mut dyn FnMut(Problem)) -> Key {
    let at = node.at;
    let mut refuse = |message: &str, fix: &str| {
        problems(Problem::new(at, "", message, fix));
        Key { name: None, at }
    };
    let Value::Scalar(kind, text) = node.value else {
        return refuse("a key must be one word, not a list or mapping", "");
    };
    if text == "<<" {
        let fix = "write the keys out, or repeat a whole value with an alias";
        return refuse("merge keys (`<<`) are not used here", fix);
    }
    if kind == Scalar::Null {
        return refuse("there is no key before this `:`", "");
    }
    if let Some(first) = seen.get(&text) {
        let message = format!(
            "`{}` is given twice; first at line {}, column {}",
            clip(&text),
            first.line,
            first.column
        );
        return refuse(&message, "keep one of them");
    }
    seen.insert(text.clone(), at);
    Key { name: Some(text), at }
}

/// The kinds of YAML 1.2's core schema; `yes`, `no`, `on`, `off` are texts.
fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        _ => {
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
                Scalar::Int
            } else if is_number(digits) {
                Scalar::Float
            } else {
                Scalar::Text
            }
        }
    }
}

/// `1.5`, `.5`, `1e3`, `0x1f`, `.inf`: numbers that no key takes.
fn is_number(digits: &str) -> bool {
    let radix = |prefix: &str, base: u32| {
        digits
            .strip_prefix(prefix)
            .is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_digit(base)))
    };
    let starts = digits.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
    matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN")
        || radix("0x", 16)
        || radix("0o", 8)
        || (starts && digits.parse::<f64>().is_ok())
}

fn place(span: &Span) -> Place {
    let (start, end) = (span.start, span.end);
    // A text over several lines is marked on its first.
    let width =
        if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { usize::MAX };
    mark(&start, width)
}

fn mark(marker: &Marker, width: usize) -> Place {
    Place { line: marker.line(), column: marker.col() + 1, width }
}

fn too_deep(at: Place) -> Problem {
    let message = format!("nested deeper than {MAX_DEPTH} levels");
    Problem::new(at, "", message, "")
}

fn syntax(error: &ScanError) -> Problem {
    use granit_parser::ErrorKind as Kind;
    let fix = match error.kind() {
        Kind::TabNotAllowed
        | Kind::TabInBlockIndentation
        | Kind::TabInIndentation
        | Kind::TabInPlainScalar
        | Kind::TabAtBlockScalarStart => "indent with spaces",
        Kind::MappingValueNotAllowed | Kind::InvalidColonPlacement => {
            "put the value in quotes if it contains `: `, and check the indentation above"
        }
        Kind::UnclosedQuotedScalar => "close the quotes",
        Kind::UnclosedFlowCollection { .. } => "close the bracket",
        Kind::UnexpectedCharacter { .. } => "put the value in quotes",
        Kind::UnknownAnchor => "an alias (`*name`) repeats a value marked `&name` above it",
        Kind::RecursionLimitExceeded => return too_deep(mark(error.marker(), 1)),
        Kind::ExpectedBlockMappingKey | Kind::InvalidIndentation => {
            "keys of one mapping begin in the same column"
        }
        Kind::SimpleKeyExpected | Kind::InvalidSimpleKey => "write `key: value`",
        // What the parser says has to do for the many others.
        _ => "",
    };
    let message = format!("this is not YAML: {}", error.info());
    Problem::new(mark(error.marker(), 1), "", message, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Trail;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    fn read(text: &str) -> (Option<Node>, Vec<String>) {
        let mut out = Vec::new();
        let node = parse(text, &mut |p| out.push(format!("{}:{} {}", p.line, p.column, p.message)));
        (node, out)
    }

    #[test]
    fn every_key_and_value_has_its_place() {
        let (node, problems) = read("# c\na: 1\nb:\n  - x: 'y'\n  - {z: off}\n");
        assert!(problems.is_empty(), "{problems:?}");
        let node = node.unwrap();
        let place = |t: Trail| (node.place(&t).line, node.place(&t).column, node.place(&t).width);
        assert_eq!(place(Trail::to("a")), (2, 4, 1));
        assert_eq!(place(Trail::to("b")), (3, 1, 1), "a list is shown at its key");
        assert_eq!(place(Trail::to("b").item(0).key("x")), (4, 8, 3));
        assert_eq!(place(Trail::to("b").item(1).key("z")), (5, 9, 3));
        assert_eq!(place(Trail::to("b").item(7).key("z")), (3, 1, 1), "the nearest above");
    }

    #[test]
    fn takes_words_for_what_yaml_1_2_does() {
        for (text, kind) in [
            ("yes", Scalar::Text),
            ("off", Scalar::Text),
            ("true", Scalar::Bool(true)),
            ("16G", Scalar::Text),
            ("-5", Scalar::Int),
            ("1.5", Scalar::Float),
            ("0x1f", Scalar::Float),
            ("01:00.0", Scalar::Text),
            ("1002:5046", Scalar::Text),
            ("infinity", Scalar::Text),
            ("", Scalar::Null),
        ] {
            assert_eq!(resolve(text), kind, "{text}");
        }
    }

    #[test]
    fn refuses_what_a_configuration_does_not_need() {
        for (text, said) in [
            ("a: 1\nb: 2\na: 3\n", "3:1 `a` is given twice; first at line 1, column 1"),
            ("a: !!str 1\n", "1:4 the tag `!!str` is not used here"),
            (
                "a: 1\n---\nb: 2\n",
                "2:1 a second document begins here; a configuration file has one",
            ),
            ("? [a]\n: 1\n", "1:3 a key must be one word, not a list or mapping"),
            ("a: &x 1\n<<: *x\n", "2:1 merge keys (`<<`) are not used here"),
            ("a: &x [*x]\n", "1:8 this alias stands inside what it repeats"),
        ] {
            let (_, problems) = read(text);
            assert_eq!(problems, [said], "{text}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..20 {
            let row = vec![format!("*a{}", i - 1); 10].join(",");
            let _ = writeln!(bomb, "a{i}: &a{i} [{row}]");
        }
        let (node, problems) = read(&bomb);
        assert!(node.is_none() && problems[0].contains("more than 50000"), "{problems:?}");
        let (node, problems) = read(&"[".repeat(100_000));
        assert!(node.is_none() && problems[0].contains("deeper"), "{problems:?}");
        let mut deep = "a0: &a0 [x]\n".to_owned();
        for i in 1..60 {
            let _ = writeln!(deep, "a{i}: &a{i} [*a{}]", i - 1);
        }
        let (node, problems) = read(&deep);
        assert!(node.is_none() && problems[0].contains("deeper"), "{problems:?}");
    }

    #[test]
    fn aliases_repeat_a_value() {
        let (node, problems) = read("a: &x [1]\nb: *x\n");
        assert!(problems.is_empty());
        let node = node.unwrap();
        assert_eq!(node.entry("a").unwrap().value, node.entry("b").unwrap().value);
    }

    #[test]
    fn nothing_is_an_empty_mapping() {
        for text in ["", "\n", "# only a comment\n", "---\n", "~", "\u{feff}"] {
            assert_eq!(read(text).0, Some(Node::empty()), "{text:?}");
        }
        assert!(read(&"# long comment block\n".repeat(500)).1.is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(text in "([ \\t\\r\\n:,{}\\[\\]&*!|>'\"%@`#?~<-]|[a-c0-9]|\\PC){0,80}") {
            let lines = crate::config::text::Lines::new(&text).count();
            let mut places = Vec::new();
            let _ = parse(&text, &mut |p| places.push(p.line));
            for line in places {
                prop_assert!(line >= 1 && line <= lines + 1, "{line} of {lines}");
            }
        }
    }
}

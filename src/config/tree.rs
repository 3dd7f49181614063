//! The tree of a YAML text, with the place of every key and value.

use std::fmt;

/// Where something stands in its file: line and column from 1, and how many
/// characters of the line it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Characters on that line; 0 for a value that is not written.
    pub width: usize,
}

impl Place {
    /// The beginning of a file.
    pub const START: Self = Self { line: 1, column: 1, width: 0 };
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: Place,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A single value, as written, with what YAML takes it for.
    Scalar(Scalar, String),
    /// `- a`
    List(Vec<Node>),
    /// `key: value`, in the file's order, every key once.
    Map(Vec<Entry>),
}

/// What YAML 1.2 takes a plain scalar for. `yes` and `off` are texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// Nothing, `~` or `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Int,
    /// A number with a fraction or an exponent.
    Float,
    /// Anything else, and everything in quotes.
    Text,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub at: Place,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// An empty mapping: what an empty file means.
    pub fn empty() -> Self {
        Self { at: Place::START, value: Value::Map(Vec::new()) }
    }

    /// Whether nothing is written here.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar(Scalar::Null, _))
    }

    /// The entry of a mapping.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Value::Scalar(..) | Value::List(_) => None,
        }
    }

    /// Where a person should look for the value at `trail`: the value if it is
    /// one word, else its key; the nearest thing above it if it is not there.
    pub fn place(&self, trail: &Trail) -> Place {
        let (mut node, mut named) = (self, self.at);
        for step in &trail.0 {
            let Some(next) = node.child(step) else { break };
            (node, named) = next;
        }
        match node.value {
            Value::Scalar(..) if node.at.width > 0 => node.at,
            Value::Scalar(..) | Value::List(_) | Value::Map(_) => named,
        }
    }

    /// Whether something is written at `trail`.
    pub fn has(&self, trail: &Trail) -> bool {
        let mut steps = trail.0.iter();
        steps.try_fold(self, |node, step| node.child(step).map(|(child, _)| child)).is_some()
    }

    /// One step down, with the place of what names the child.
    fn child(&self, step: &Step) -> Option<(&Self, Place)> {
        match (step, &self.value) {
            (Step::Key(key), _) => self.entry(key).map(|e| (&e.value, e.at)),
            (Step::Index(i), Value::List(items)) => items.get(*i).map(|n| (n, n.at)),
            (Step::Index(_), Value::Scalar(..) | Value::Map(_)) => None,
        }
    }

    /// Nodes in this tree, itself included.
    pub fn count(&self) -> usize {
        match &self.value {
            Value::Scalar(..) => 1,
            Value::List(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|e| e.value.count()).sum::<usize>(),
        }
    }

    /// Levels of nesting, 1 for a scalar.
    pub fn depth(&self) -> usize {
        match &self.value {
            Value::Scalar(..) => 1,
            Value::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(entries) => 1 + entries.iter().map(|e| e.value.depth()).max().unwrap_or(0),
        }
    }
}

/// The way from the root to a value: `disks[1].path`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trail(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Trail {
    /// The root, or one key below it.
    pub fn to(key: &str) -> Self {
        Self::default().key(key)
    }

    /// One key further.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// One list item further.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// Whether the last step is a list's item.
    pub fn is_item(&self) -> bool {
        matches!(self.0.last(), Some(Step::Index(_)))
    }

    /// The last key on the way, for messages.
    pub fn last_key(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
    }

    /// The keys on the way: `disks.path`.
    pub fn without_items(&self) -> String {
        let keys = self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        keys.collect::<Vec<_>>().join(".")
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

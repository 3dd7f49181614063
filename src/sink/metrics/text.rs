//! The text format of `OpenMetrics` 1.0.

use std::fmt::Write as _;

/// Its media type.
pub const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only up; its samples end in `_total`.
    Counter,
    /// Its labels are what it says; its samples end in `_info`.
    Info,
}

/// A page as it grows: a family, then its samples.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// Writing to a String cannot fail.
    pub(super) fn family(&mut self, name: &str, kind: Kind, unit: &str, help: &str) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Info => "info",
        };
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(self.0, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.0, "# HELP {name} {help}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            self.escaped(text);
            self.0.push('"');
        }
        self.0.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = if value.is_infinite() {
            writeln!(self.0, "{}Inf", if value > 0.0 { '+' } else { '-' })
        } else {
            writeln!(self.0, "{value}")
        };
    }

    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
    }

    pub(super) fn end(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }
}

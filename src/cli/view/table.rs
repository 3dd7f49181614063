//! Tables without lines: columns two spaces apart, the last one wrapped.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement};

use super::Look;

/// Below this the last column is not wrapped: a column of single words helps nobody.
const NARROW: u16 = 16;

/// A cell's text: printable, and without tabs, whose width nobody knows.
pub fn cell(text: &str) -> String {
    let text = super::printable(text).replace('\t', " ");
    // The invisible marks are ours.
    text.replace(['\u{2063}', '\u{2064}'], "")
}

/// Rows under heads. Cells come from [`cell`] or from `paint`.
pub fn table<const N: usize>(
    heads: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    look: Look,
) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(NOTHING);
    if heads.iter().any(|head| !head.is_empty()) {
        table.set_header(heads);
    }
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let widths = table.column_max_content_widths();
    let fixed: u16 = widths.iter().rev().skip(1).map(|width| width + 2).sum();
    match look.width {
        Some(width) if width >= fixed + NARROW => {
            table.set_width(width);
            table.set_content_arrangement(ContentArrangement::Dynamic);
            let last = widths.len().saturating_sub(1);
            for column in table.column_iter_mut().take(last) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        _ => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    table.trim_fmt()
}

/// Text moved right by `by` spaces, line for line; empty lines stay empty.
pub fn indent(text: &str, by: usize) -> String {
    let space = " ".repeat(by);
    text.lines().fold(String::new(), |all, line| {
        all + if line.is_empty() { "" } else { &space } + line + "\n"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples::LOOK;

    #[test]
    fn wide_characters_keep_columns_and_long_texts_wrap() {
        let rows = [
            ["日本語".to_owned(), "one two three four five six seven".to_owned()],
            ["a".to_owned(), "short".to_owned()],
        ];
        let look = Look { width: Some(28), ..LOOK };
        insta::assert_snapshot!(table(["NAME", "TEXT"], rows.clone(), look), @r"
        NAME    TEXT
        日本語  one two three four
                five six seven
        a       short
        ");
        let narrow = Look { width: Some(20), ..LOOK };
        assert_eq!(table(["NAME", "TEXT"], rows, narrow).lines().count(), 3);
    }
}

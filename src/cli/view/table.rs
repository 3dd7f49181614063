//! Tables without lines: columns two spaces apart, the last one wrapped.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement};

use super::Look;

/// Below this the last column is not wrapped: a column of single words helps nobody.
const NARROW: u16 = 16;

/// A cell's text: printable, and without tabs, whose width nobody knows.
pub fn cell(text: &str) -> String {
    // Nearly all are: there is nothing to remove then.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
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
    let rows: Vec<[String; N]> = rows.into_iter().collect();
    if let Some(text) = plain(&heads, &rows, look) {
        return text;
    }
    laid_out(heads, rows, look)
}

/// The same where nothing has to be wrapped and a byte is a column: a table of
/// thousands of rows is then a matter of milliseconds.
fn plain<const N: usize>(heads: &[&str; N], rows: &[[String; N]], look: Look) -> Option<String> {
    // The other way makes no column narrower.
    let mut widths = [1; N];
    for (width, head) in widths.iter_mut().zip(heads) {
        *width = columns(head)?.max(*width);
    }
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = columns(cell)?.max(*width);
        }
    }
    let whole: usize = widths.iter().map(|width| width + 2).sum();
    if look.width.is_some_and(|width| whole > usize::from(width)) {
        return None;
    }
    let mut text = String::with_capacity((rows.len() + 1) * whole);
    if heads.iter().any(|head| !head.is_empty()) {
        line(&mut text, heads.iter().copied(), &widths);
    }
    for row in rows {
        line(&mut text, row.iter().map(String::as_str), &widths);
    }
    text.pop();
    Some(text)
}

/// Columns of a cell of printable ASCII; our marks have none.
fn columns(cell: &str) -> Option<usize> {
    let mut columns = 0;
    for c in cell.chars() {
        match c {
            ' '..='~' => columns += 1,
            '\u{2063}' | '\u{2064}' => {}
            _ => return None,
        }
    }
    Some(columns)
}

fn line<'a>(text: &mut String, cells: impl Iterator<Item = &'a str>, widths: &[usize]) {
    for (cell, width) in cells.zip(widths) {
        text.push_str(cell);
        let left = width.saturating_sub(columns(cell).unwrap_or_default()) + 2;
        text.extend(std::iter::repeat_n(' ', left));
    }
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}

fn laid_out<const N: usize>(heads: [&str; N], rows: Vec<[String; N]>, look: Look) -> String {
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

    proptest::proptest! {
        #[test]
        fn the_plain_way_and_the_other_agree(
            rows in proptest::collection::vec(["[ -~]{0,9}", "[!-~]{1,5}", "[!-~]{0,12}"], 1..8),
            heads in proptest::bool::ANY,
            width in proptest::option::of(20_u16..80),
            mark in 0..8_usize,
        ) {
            let mut rows = rows;
            if let Some(row) = rows.get_mut(mark) {
                row[1] = super::super::paint::word(crate::base::Severity::Warning);
            }
            let heads = if heads { ["ONE", "", "THREE"] } else { [""; 3] };
            let look = Look { width, ..LOOK };
            if let Some(text) = plain(&heads, &rows, look) {
                proptest::prop_assert_eq!(text, laid_out(heads, rows, look));
            }
        }
    }

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

//! The look of all tables.

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

/// Makes a table with a line under its header. All columns but the first are right-aligned.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

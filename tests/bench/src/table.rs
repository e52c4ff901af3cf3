//! Tables for terminals and in Markdown.

use std::fmt::Write;

/// A table. The first column is text, the other columns are figures.
pub struct Table {
    pub title: String,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(title: &str, header: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            header: header.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.header.len(), "a cell for each column");
        self.rows.push(cells);
    }

    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n\n", self.title);
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let width = |column: usize| lines().map(|cells| cells[column].chars().count()).max();
        for cells in lines() {
            for (column, cell) in cells.iter().enumerate() {
                let width = width(column).unwrap_or(0);
                // Writing to a string cannot fail.
                let _ = match column {
                    0 => write!(text, "{cell:<width$}"),
                    _ => write!(text, "  {cell:>width$}"),
                };
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }

    pub fn to_markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&self.header);
        let columns = self.header.len();
        let _ = writeln!(text, "|---|{}", "--:|".repeat(columns - 1));
        for cells in &self.rows {
            text += &line(cells);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_table_in_both_forms() {
        let mut table = super::Table::new("Times", &["program", "ms"]);
        table.row(vec!["numpy".into(), "39.4".into()]);
        table.row(vec!["a".into(), "139.4".into()]);
        insta::assert_snapshot!(table.to_text(), @r"
        Times

        program     ms
        numpy     39.4
        a        139.4
        ");
        insta::assert_snapshot!(table.to_markdown(), @r"
        | program | ms |
        |---|--:|
        | numpy | 39.4 |
        | a | 139.4 |
        ");
    }
}

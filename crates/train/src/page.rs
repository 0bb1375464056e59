//! One self-contained HTML page of text, tables and charts: no script, no file beside it.

use std::fmt::Write as _;

use crate::chart::{Chart, escape};

/// A page under construction.
#[derive(Debug, Clone)]
pub struct Page {
    title: String,
    body: String,
}

const STYLE: &str = "\
:root{color-scheme:light}\
body{font:15px/1.5 system-ui,sans-serif;color:#1c1c1c;background:#fafafa;margin:0 auto;padding:1rem;max-width:76rem}\
h1{font-size:1.4rem;margin:.4rem 0 1rem}h2{font-size:1.1rem;margin:1.6rem 0 .5rem}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;background:#fff;font-variant-numeric:tabular-nums;font-size:.92rem}\
th,td{padding:.28rem .7rem;border-bottom:1px solid #e4e4e4;text-align:right;vertical-align:top}\
th{background:#f1f1f1;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}td.text{text-align:left;min-width:9rem}\
td.best{font-weight:600;background:#eef6ee}\
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr));gap:1rem}\
figure{margin:0;padding:.6rem;background:#fff;border:1px solid #e4e4e4;border-radius:4px}\
p.note{color:#555;margin:.3rem 0;max-width:60rem}";

impl Page {
    /// A page with this heading.
    pub fn new(title: &str) -> Self {
        Self { title: title.into(), body: String::new() }
    }

    /// Adds a heading.
    pub fn heading(&mut self, text: &str) {
        self.put(format_args!("<h2>{}</h2>\n", escape(text)));
    }

    /// Adds a small paragraph.
    pub fn note(&mut self, text: &str) {
        self.put(format_args!("<p class=\"note\">{}</p>\n", escape(text)));
    }

    /// Adds a table; a narrow page scrolls it sideways. Cells that are not figures stand left.
    pub fn table(&mut self, header: &[String], rows: &[Vec<TableCell>]) {
        let head: String = header.iter().map(|h| format!("<th>{}</th>", escape(h))).collect();
        let row = |cells: &Vec<TableCell>| -> String {
            format!("<tr>{}</tr>\n", cells.iter().map(TableCell::html).collect::<String>())
        };
        let rows: String = rows.iter().map(row).collect();
        self.put(format_args!("<div class=\"wide\"><table><tr>{head}</tr>\n{rows}</table></div>\n"));
    }

    /// Adds charts, side by side where there is room.
    pub fn charts(&mut self, charts: &[Chart]) {
        let figures: String = charts.iter().map(|c| format!("<figure>{}</figure>\n", c.svg())).collect();
        self.put(format_args!("<div class=\"charts\">\n{figures}</div>\n"));
    }

    /// The whole page.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{}</body></html>\n",
            self.body
        )
    }

    /// Writing to a String cannot fail.
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = self.body.write_fmt(text);
    }
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableCell {
    /// What stands in it.
    pub text: String,
    /// Whether it is the best of its kind.
    pub best: bool,
    /// Whether it is words, not a figure.
    pub words: bool,
}

impl TableCell {
    /// A figure.
    pub fn figure(text: impl Into<String>) -> Self {
        Self { text: text.into(), best: false, words: false }
    }

    /// Words.
    pub fn words(text: impl Into<String>) -> Self {
        Self { text: text.into(), best: false, words: true }
    }

    fn html(&self) -> String {
        let class = match (self.best, self.words) {
            (true, _) => " class=\"best\"",
            (_, true) => " class=\"text\"",
            _ => "",
        };
        format!("<td{class}>{}</td>", escape(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::{Axis, Series};

    #[test]
    fn a_page_needs_nothing_beside_it() {
        let mut page = Page::new("Runs <1>");
        page.heading("Figures");
        page.note("a & b");
        let best = TableCell { best: true, ..TableCell::figure("0.9") };
        page.table(&["metric".into(), "x".into()], &[vec![TableCell::words("auc"), best]]);
        page.charts(&[Chart {
            title: "c".into(),
            x: Axis::unit("x"),
            y: Axis::unit("y"),
            series: vec![Series::line("s", vec![(0.0, 1.0)])],
        }]);
        let html = page.html();
        assert!(html.contains("Runs &lt;1&gt;") && html.contains("a &amp; b") && html.contains("<svg"));
        assert!(html.contains("<td class=\"best\">0.9</td>"));
        for outside in ["<script", "src=", "href=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}

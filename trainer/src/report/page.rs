//! A page that needs nothing beside itself: HTML with its style and its plots inside.

use std::fmt::Write as _;

use super::{Plot, PlotError};

/// A figure that is read first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// What it is.
    pub label: String,
    /// Its value.
    pub value: String,
    /// What it means, in small letters; may be empty.
    pub note: String,
}

/// A page under construction, from above.
#[derive(Debug)]
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// A page with a title and a line below it.
    #[must_use]
    pub fn new(title: &str, subtitle: &str) -> Self {
        let body = format!("<header><h1>{}</h1><p>{}</p></header>\n", escaped(title), escaped(subtitle));
        Self { title: title.to_owned(), body }
    }

    /// Figures in a row.
    #[must_use]
    pub fn tiles(mut self, tiles: &[Tile]) -> Self {
        self.body.push_str("<section class=\"tiles\">\n");
        for Tile { label, value, note } in tiles {
            let [label, value, note] = [label, value, note].map(|text| escaped(text));
            let _ = writeln!(
                self.body,
                "<div class=\"tile\"><span>{label}</span><strong>{value}</strong><small>{note}</small></div>"
            );
        }
        self.body.push_str("</section>\n");
        self
    }

    /// A plot, laid out once for a wide screen and once for a narrow one.
    ///
    /// # Errors
    /// A plot that cannot be drawn.
    pub fn plot(mut self, plot: &Plot) -> Result<Self, PlotError> {
        let title = escaped(plot.title());
        let (wide, narrow) = (plot.svg(960, 480)?, plot.svg(420, 400)?);
        let _ = writeln!(
            self.body,
            "<figure class=\"card\" role=\"img\" aria-label=\"{title}\">\
             <div class=\"wide\">{wide}</div><div class=\"narrow\">{narrow}</div></figure>"
        );
        Ok(self)
    }

    /// A table; the columns after the first hold numbers.
    #[must_use]
    pub fn table(mut self, title: &str, head: &[&str], rows: &[Vec<String>]) -> Self {
        let row = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells.map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect::<String>();
            format!("<tr>{cells}</tr>\n")
        };
        let head = row("th", &mut head.iter().copied());
        let rows = rows.iter().map(|cells| row("td", &mut cells.iter().map(String::as_str))).collect::<String>();
        let title = escaped(title);
        let _ = write!(
            self.body,
            "<section class=\"card\"><h2>{title}</h2><div class=\"scroll\"><table><thead>{head}</thead>\
             <tbody>\n{rows}</tbody></table></div></section>\n"
        );
        self
    }

    /// Names with their values.
    #[must_use]
    pub fn facts(mut self, title: &str, facts: &[(String, String)]) -> Self {
        let fact =
            |(name, value): &(String, String)| format!("<dt>{}</dt><dd>{}</dd>\n", escaped(name), escaped(value));
        let facts = facts.iter().map(fact).collect::<String>();
        let title = escaped(title);
        let _ = writeln!(self.body, "<section class=\"card\"><h2>{title}</h2><dl>\n{facts}</dl></section>");
        self
    }

    /// A text as it is, such as settings.
    #[must_use]
    pub fn text(mut self, title: &str, text: &str) -> Self {
        let _ = writeln!(
            self.body,
            "<section class=\"card\"><h2>{}</h2><pre>{}</pre></section>",
            escaped(title),
            escaped(text.trim_end())
        );
        self
    }

    /// The whole page.
    #[must_use]
    pub fn finish(self) -> String {
        let Self { title, body } = self;
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
            escaped(&title)
        )
    }
}

const STYLE: &str = include_str!("page.css");

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

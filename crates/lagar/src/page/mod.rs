//! Pages that explain themselves: one HTML file with everything in it, for light and dark screens and for paper.
//!
//! What comes from a file or a model is escaped by [`html`]; nothing is loaded from anywhere.

pub(crate) mod chart;

const STYLE: &str = include_str!("style.css");

/// `text` for use between HTML tags or in a quoted attribute.
pub(crate) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && c != '\n' => {}
            c => out.push(c),
        }
    }
    out
}

/// The first bytes of every page that `generator` makes.
pub(crate) fn beginning(generator: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"generator\" content=\"{}\">\n",
        html(generator)
    )
}

/// A whole page. `title` is text, `body` HTML.
pub(crate) fn document(generator: &str, title: &str, body: &str) -> String {
    format!(
        "{}<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        beginning(generator),
        html(title)
    )
}

/// A table of plain cells; the first cell of a row names it.
#[derive(Debug)]
pub(crate) struct Table {
    body: String,
}

impl Table {
    /// A table with these column headings.
    pub(crate) fn new<S: AsRef<str>>(columns: &[S]) -> Self {
        let mut body = String::from("<thead><tr>");
        for column in columns {
            body.push_str(&format!("<th scope=\"col\">{}</th>", html(column.as_ref())));
        }
        body.push_str("</tr></thead>\n<tbody>\n");
        Self { body }
    }

    /// Adds a row; `class` may be empty.
    pub(crate) fn row(&mut self, class: &str, cells: impl IntoIterator<Item = String>) {
        let class = match class {
            "" => String::new(),
            class => format!(" class=\"{}\"", html(class)),
        };
        self.body.push_str(&format!("<tr{class}>"));
        for (i, cell) in cells.into_iter().enumerate() {
            let tag = if i == 0 { "th scope=\"row\"" } else { "td" };
            self.body
                .push_str(&format!("<{tag}>{}</{}>", html(&cell), &tag[..2]));
        }
        self.body.push_str("</tr>\n");
    }

    /// The table as HTML.
    pub(crate) fn render(&self) -> String {
        format!(
            "<div class=\"wide\"><table>\n{}</tbody>\n</table></div>\n",
            self.body
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place() {
        let mut table = Table::new(&["<b>"]);
        table.row("", ["</td><script>".to_owned(), "\" onload=\"x".to_owned()]);
        let page = document("g", "</title><script>", &table.render());
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        assert!(!page.contains("\" onload"), "{page}");
    }
}

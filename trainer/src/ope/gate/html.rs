//! The verdict as a page that stands alone: no script, no font, no other file.

use std::fmt::{Display, Write};

use super::{Figure, TestOutcome, Verdict};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}
th,td{border-bottom:1px solid #ddd;padding:.3rem .8rem;text-align:left;vertical-align:top}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
tr.first{font-weight:600}
.passed{color:#176d2f}.failed{color:#a3171a;font-weight:600}.none{color:#666}
small{color:#666;font-weight:400}";

impl Verdict {
    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let (candidate, baseline) = (escape(&self.candidate), escape(&self.baseline));
        let (class, verdict) = if self.passed() { ("passed", "may replace") } else { ("failed", "may not replace") };
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{candidate} against {baseline}</title>\n\
             <style>\n{STYLE}\n</style>\n<h1>{candidate} against {baseline}</h1>\n\
             <p class=\"{class}\">{candidate} {verdict} {baseline}.</p>\n"
        );
        page.push_str("<h2>Tests</h2>\n<table>\n<tr><th>test<th>outcome<th>found\n");
        for test in &self.tests {
            let class = match test.outcome {
                TestOutcome::Passed => "passed",
                TestOutcome::Failed => "failed",
                TestOutcome::NotApplicable => "none",
            };
            let remedy = test.remedy.as_ref().map_or_else(String::new, |text| format!("<br>{}", escape(text)));
            let finding = escape(&test.finding);
            line(
                &mut page,
                format_args!("<tr><td>{}<td class=\"{class}\">{}<td>{finding}{remedy}", test.name, test.outcome),
            );
        }
        page.push_str("</table>\n<h2>Value a decision</h2>\n<table>\n<tr>");
        for heading in self.headings() {
            line(&mut page, format_args!("<th>{}", escape(&heading)));
        }
        for (index, row) in self.comparisons.iter().enumerate() {
            let class = if index == 0 { " class=\"first\"" } else { "" };
            line(&mut page, format_args!("<tr{class}><td>{}", escape(&row.estimator)));
            for figure in [&row.candidate, &row.baseline, &row.improvement] {
                let class = if matches!(figure, Figure::Estimate(_)) { "n" } else { "none" };
                line(&mut page, format_args!("<td class=\"{class}\">{}", escape(&figure.to_string())));
            }
        }
        let interval = &self.settings.interval;
        let over = if self.users.is_some() { " over users" } else { "" };
        line(
            &mut page,
            format_args!(
                "</table>\n<p><small>The first estimator decides. Intervals: {:.1}%, {}{over}.</small></p>\n<h2>The log</h2>\n\
                 <table>",
                100.0 * interval.confidence,
                interval.method.name()
            ),
        );
        for (name, figure) in self.facts() {
            line(&mut page, format_args!("<tr><td>{}<td class=\"n\">{}", escape(&name), escape(&figure)));
        }
        page.push_str("</table>\n</html>\n");
        page
    }
}

fn line(page: &mut String, text: impl Display) {
    // Writing into a string cannot fail.
    let _ = writeln!(page, "{text}");
}

/// Text as HTML: names come from folders and may hold anything.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

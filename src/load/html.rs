//! The report as one page that needs nothing else: no script, no font, no picture from elsewhere.

use std::fmt::Write as _;

use super::compare::{change, differences, unlike};
use super::report::{COLUMNS, Report, Row, cells};
use super::svg::{Plot, Series, escape};
use super::verdict::{show_bytes, show_us};

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1c2430;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #dde3ea;white-space:nowrap}td:first-child,th:first-child{text-align:left}\
.facts td{text-align:left;white-space:normal;vertical-align:top}.scroll{overflow-x:auto}.kept{color:#12702f}.broken{color:#b3161b;font-weight:600}\
svg{width:100%;height:auto;display:block;margin:.8rem 0}polyline{fill:none;stroke-width:1.5}.g{stroke:#e4e9ef}.m{stroke:#9aa7b5;stroke-dasharray:3 3}\
.l{font-size:11px;fill:#55606e}.t{font-size:13px;font-weight:600;fill:#1c2430}";

/// The page. `before` is an earlier run to compare with.
#[must_use]
pub fn page(report: &Report, before: Option<&Report>, marks: &[(f64, &'static str)]) -> String {
    let title = format!("ringhub load {}, {}", report.setting.profile, report.began);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{0}</title><style>{STYLE}</style></head><body>\n<h1>{0}{1}</h1>\n",
        escape(&title),
        if report.is_interrupted { " (ended early)" } else { "" }
    );
    for verdict in &report.verdicts {
        let (class, word) = if verdict.is_kept { ("kept", "kept") } else { ("broken", "BROKEN") };
        let _ = writeln!(
            page,
            "<p class=\"{class}\">{word}: {}: {}, {}</p>",
            escape(&verdict.what),
            escape(&verdict.measured),
            escape(&verdict.wanted)
        );
    }
    page.push_str("<table class=\"facts\">");
    for (name, value) in report.facts() {
        let _ = writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value));
    }
    for note in &report.notes {
        let _ = writeln!(page, "<tr><th>note</th><td>{}</td></tr>", escape(note));
    }
    page.push_str("</table>\n");
    if let Some(before) = before {
        comparison(&mut page, before, report);
    }
    page.push_str("<h2>Timeline</h2>\n<div class=\"scroll\"><table><tr>");
    for column in COLUMNS {
        let _ = write!(page, "<th>{column}</th>");
    }
    page.push_str("</tr>\n");
    for row in &report.table {
        page.push_str("<tr>");
        for cell in cells(row) {
            let _ = write!(page, "<td>{}</td>", escape(&cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
    for plot in plots(&report.rows, marks) {
        page.push_str(&plot.svg());
    }
    page.push_str("</body></html>\n");
    page
}

fn comparison(page: &mut String, before: &Report, now: &Report) {
    let _ = writeln!(page, "<h2>Compared with the run of {}</h2>", escape(&before.began));
    for (what, was, is) in unlike(before, now) {
        let _ = writeln!(page, "<p class=\"broken\">Not alike: {what} was {}, is {}</p>", escape(&was), escape(&is));
    }
    page.push_str("<table><tr><th></th><th>before</th><th>now</th><th>change</th></tr>\n");
    for difference in differences(before, now) {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            difference.what,
            escape(&difference.before),
            escape(&difference.now),
            change(&difference)
        );
    }
    page.push_str("</table>\n");
}

fn plots<'a>(rows: &[Row], marks: &'a [(f64, &'static str)]) -> Vec<Plot<'a>> {
    let line = |name, colour, of: fn(&Row) -> f64| Series { name, colour, points: rows.iter().map(|row| (row.to_s, of(row))).collect() };
    let plain: fn(f64) -> String = |value| format!("{value:.0}");
    let percent: fn(f64) -> String = |value| format!("{value:.0} %");
    let plot = |title, show, is_logarithmic, series| Plot { title, show, is_logarithmic, series, marks };
    vec![
        plot(
            "messages a second",
            plain,
            false,
            vec![
                line("planned", "#9aa7b5", |row| row.planned),
                line("answered", "#1f6feb", |row| row.answered),
                line("refused", "#d98300", |row| row.refused),
                line("errors", "#b3161b", |row| row.errors as f64 / (row.to_s - row.from_s).max(1e-9)),
            ],
        ),
        plot(
            "latency from the planned time",
            show_us,
            true,
            vec![
                line("p50", "#12702f", |row| row.p50_us),
                line("p95", "#1f6feb", |row| row.p95_us),
                line("p99", "#8a3ffc", |row| row.p99_us),
                line("p99 of refusals", "#d98300", |row| row.refused_p99_us),
                line("lag of the load, p99", "#9aa7b5", |row| row.lag_p99_us),
            ],
        ),
        plot("connections", plain, false, vec![line("open", "#1f6feb", |row| row.open as f64)]),
        plot("memory of the server", show_bytes, false, vec![line("resident", "#8a3ffc", |row| row.rss_bytes as f64)]),
        plot(
            "CPU",
            percent,
            false,
            vec![line("server", "#8a3ffc", |row| row.cpu_percent), line("load", "#9aa7b5", |row| row.load_cpu_percent)],
        ),
        plot("Mbit/s", plain, false, vec![line("requests", "#1f6feb", |row| row.mbit_out), line("answers", "#12702f", |row| row.mbit_in)]),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Verdict;
    use super::*;

    #[test]
    fn the_page_needs_nothing_else_and_trusts_nobody() {
        let mut report = Report::default();
        report.setting.server = "<script>alert(1)</script>".into();
        report.notes.push("a & b".into());
        report.verdicts.push(Verdict { what: "p99".into(), measured: "6 ms".into(), wanted: "at most 5 ms".into(), is_kept: false });
        let row =
            |at: f64| Row { from_s: at, to_s: at + 1.0, answered: 10.0, p50_us: 5.0, p99_us: 50.0, rss_bytes: 1_000_000, ..Row::default() };
        report.rows = (0..10).map(|at| row(f64::from(at))).collect();
        report.table = vec![Row { label: "warm".into(), ..row(0.0) }];
        let page = page(&report, Some(&Report::default()), &[(3.0, "peak")]);
        for outside in ["<script", "http-equiv", "src=", "@import", "url(", "<link"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for part in ["&lt;script&gt;", "a &amp; b", "BROKEN: p99", "<svg", "Compared with", "<td>warm</td>"] {
            assert!(page.contains(part), "{part}");
        }
        // Rates, latency and memory have something to show; connections, CPU and the network have not.
        assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (3, 3));
    }
}

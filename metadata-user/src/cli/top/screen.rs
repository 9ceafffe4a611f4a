//! The screen of `top`: a frame of what was read, drawn with ratatui.
//!
//! Promises: it fits 80 columns and 24 lines; control characters of names move no cursor; without colours it says the same.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::reading::{Order, Rates, Reading, Tap, sort};
use crate::admin::wire::State;
use crate::cli::lines::ago;
use crate::cli::table::plain;

/// Lines above the table.
const HEAD: u16 = 4;

/// What is shown, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Screen {
    pub(super) order: Order,
    /// Taps above the first one that is shown.
    pub(super) skipped: usize,
    pub(super) is_paused: bool,
    pub(super) has_colours: bool,
    /// Why the last reading failed.
    pub(super) problem: Option<String>,
}

impl Screen {
    /// Returns the lines for taps on a screen of this height.
    pub(super) fn rows(height: u16) -> usize {
        usize::from(height.saturating_sub(HEAD + 2))
    }

    /// Draws a frame. `now`: seconds of Unix time.
    pub(super) fn draw(&self, reading: &Reading, rates: &Rates, now: u64, frame: &mut Frame<'_>) {
        let [head, table, foot] =
            Layout::vertical([Constraint::Length(HEAD), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
        frame.render_widget(Paragraph::new(self.head(reading, rates, now)), head);
        self.taps(rates, table, frame);
        let keys = format!("q quit  p {}  s sort: {}  up, down", self.pause(), self.order.name());
        frame.render_widget(Paragraph::new(keys).style(self.style(Color::DarkGray)), foot);
    }

    fn pause(&self) -> &'static str {
        if self.is_paused { "continue (paused)" } else { "pause" }
    }

    fn head(&self, reading: &Reading, rates: &Rates, now: u64) -> Vec<Line<'static>> {
        let status = &reading.status;
        let state = match (status.draining, status.ready) {
            (true, _) => "draining",
            (false, true) => "ready",
            (false, false) => "not ready",
        };
        let ports: Vec<_> = status.ports.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let latency = |seconds: Option<f64>| seconds.map_or("-".to_owned(), |seconds| format!("<{}", time(seconds)));
        let first = format!("metadatad {}  {state}  up {}", status.version, ago(now, status.started_at));
        let second = format!(
            "requests {}/s  errors {}/s  half {}  99% {}",
            number(rates.requests),
            number(rates.errors),
            latency(rates.median),
            latency(rates.slowest)
        );
        let third = format!(
            "connections {} open  {}/s new  {}/s refused  taps {}",
            status.http.open,
            number(rates.connections),
            number(rates.refused),
            if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
        );
        let healthy = if status.is_healthy() { Color::Green } else { Color::Red };
        let fourth = match &self.problem {
            Some(problem) => Line::styled(plain(problem), self.style(Color::Red)),
            None if status.is_healthy() => Line::default(),
            None => Line::styled("problems: see `metadatad status`", self.style(Color::Red)),
        };
        vec![Line::styled(plain(&first), self.style(healthy)), Line::from(second), Line::from(third), fourth]
    }

    fn taps(&self, rates: &Rates, area: Rect, frame: &mut Frame<'_>) {
        let mut taps = rates.taps.clone();
        sort(&mut taps, self.order);
        let rows = taps.iter().skip(self.skipped).map(|tap| self.row(tap));
        let widths = [
            Constraint::Length(15),
            Constraint::Length(7),
            Constraint::Length(13),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Min(10),
        ];
        let head = Row::new(["TAP", "STATE", "INSTANCE", "IN/s", "OUT/s", "DROP/s", "MOST DROPS FOR"]);
        let head =
            head.style(Style::new().add_modifier(if self.has_colours { Modifier::BOLD } else { Modifier::empty() }));
        frame.render_widget(Table::new(rows, widths).header(head), area);
    }

    fn row(&self, tap: &Tap) -> Row<'static> {
        let colour = match tap.state {
            State::Bound => None,
            State::Held | State::Passed => Some(Color::Yellow),
            State::Refused | State::Failed => Some(Color::Red),
        };
        let style = colour.map_or(Style::new(), |colour| self.style(colour));
        // The first two groups of its digits: what tells instances apart at a glance.
        let instance = tap.instance.as_deref().map_or("-", |id| id.get(..13).unwrap_or(id));
        let cells = [
            plain(&tap.tap),
            tap.state.name().to_owned(),
            instance.to_owned(),
            number(tap.from_guest),
            number(tap.to_guest),
            number(tap.dropped),
            tap.reason.clone().unwrap_or_else(|| "-".to_owned()),
        ];
        Row::new(cells.map(Cell::from)).style(style)
    }

    fn style(&self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }
}

/// Writes a rate with as many digits as matter.
fn number(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate if rate < 99_999.5 => format!("{rate:.0}"),
        rate => format!("{:.0}k", rate / 1000.0),
    }
}

/// Writes seconds in the unit that fits.
fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 0.001 => format!("{:.0} us", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::top::reading::{rates, tests::reading};

    fn drawn(screen: &Screen, width: u16, height: u16) -> Vec<String> {
        let (before, after) = (reading([10, 20, 1], [100, 0]), reading([30, 60, 5], [300, 2]));
        let rates = rates(&before, &after, Duration::from_secs(2));
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
        terminal.draw(|frame| screen.draw(&after, &rates, 1_700_000_060, frame)).expect("drawn");
        super::super::lines_of(terminal.backend().buffer())
    }

    #[test]
    fn a_frame_of_80_by_24_has_it_all() {
        let lines = drawn(&Screen::default(), 80, 24);
        assert_eq!(lines.len(), 24);
        let expected = [
            "metadatad 1.2.3  ready  up 60 s",
            "requests 101/s  errors 1.0/s  half <1 ms  99% <1 ms",
            "connections 1 open  100/s new  0/s refused  taps 1 bound",
            "problems: see `metadatad status`",
            "TAP             STATE   INSTANCE      IN/s    OUT/s   DROP/s  MOST DROPS FOR",
            "tap1            bound   11111111-0000 10      20      2.0     spoofed_ip",
            "tap2            held    -             0       0       6.0     spoofed_ip",
            "",
        ];
        assert_eq!(lines[..expected.len()], expected, "{lines:#?}");
        assert_eq!(lines[23], "q quit  p pause  s sort: traffic  up, down");
    }

    #[test]
    fn order_pause_place_and_problems_are_shown_and_small_screens_do_no_harm() {
        let screen = Screen {
            order: Order::Drops,
            is_paused: true,
            problem: Some("no metadatad\u{1b}[2J answers".to_owned()),
            ..Screen::default()
        };
        let lines = drawn(&screen, 80, 24);
        assert!(lines[3].starts_with("no metadatad\u{fffd}[2J answers"), "{}", lines[3]);
        assert!(lines[5].starts_with("tap2") && lines[6].starts_with("tap1"), "{lines:#?}");
        assert!(lines[23].contains("continue (paused)") && lines[23].contains("sort: drops"), "{}", lines[23]);
        let further = drawn(&Screen { skipped: 1, ..screen.clone() }, 80, 24);
        assert!(further[5].starts_with("tap1") && further[6].is_empty(), "{further:#?}");
        for (width, height) in [(1, 1), (20, 3), (80, 5), (200, 50)] {
            assert_eq!(drawn(&screen, width, height).len(), usize::from(height));
        }
        assert_eq!((Screen::rows(24), Screen::rows(3)), (18, 0));
    }

    #[test]
    fn numbers_are_short() {
        for (rate, expected) in
            [(0.0, "0"), (0.04, "0.0"), (9.9, "9.9"), (12.3, "12"), (99_999.0, "99999"), (2e6, "2000k")]
        {
            assert_eq!(number(rate), expected);
        }
        for (seconds, expected) in [(0.000_025, "25 us"), (0.01, "10 ms"), (10.0, "10 s")] {
            assert_eq!(time(seconds), expected);
        }
    }
}

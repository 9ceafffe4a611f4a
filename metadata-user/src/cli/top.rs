//! `metadatad top`: ports, rates, latency and drops, as they change.
//!
//! Promises: it shows only what the admin API shows; if the daemon stops, it waits for the next one; the terminal is restored however
//! this ends; `--once` needs no terminal.

mod reading;
mod screen;

use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::error::CliError;
use super::lines::now;
use super::{converse_silently, exit, print_json};
use crate::admin::client::Client;
use crate::error_text;
use reading::{Rates, Reading, latency, rates};
use screen::Screen;

/// The size of a frame that is printed.
const PAGE: (u16, u16) = (80, 24);

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    /// Seconds between two readings
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3600))]
    interval: u16,

    /// Print one frame, of two readings, and exit
    #[arg(long)]
    once: bool,

    /// With --once: print the rates as JSON
    #[arg(long, requires = "once")]
    json: bool,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Quit,
    Pause,
    Sort,
    Up,
    Down,
    Nothing,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        let interval = Duration::from_secs(self.interval.into());
        if self.once {
            return self.print(client, interval, out);
        }
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Err(CliError::NoTerminal);
        }
        // A terminal is taken only when there is something to show.
        let first = read(client)?;
        let mut terminal = ratatui::try_init()?;
        let ended = watch(client, first, interval, &mut terminal);
        ratatui::try_restore()?;
        ended.map(|()| exit::OK)
    }

    fn print(&self, client: &Client, interval: Duration, out: &mut dyn Write) -> Result<u8, CliError> {
        let (before, began) = (read(client)?, Instant::now());
        std::thread::sleep(interval);
        let after = read(client)?;
        let rates = rates(&before, &after, began.elapsed());
        if self.json {
            print_json(&rates, out)?;
            return Ok(exit::OK);
        }
        let height = u16::try_from(rates.taps.len()).unwrap_or(u16::MAX).saturating_add(PAGE.1).min(1000);
        let Ok(mut terminal) = Terminal::new(TestBackend::new(PAGE.0, height));
        let Ok(_) = terminal.draw(|frame| Screen::default().draw(&after, &rates, now(), frame));
        let lines = lines_of(terminal.backend().buffer());
        // Without the line of keys, and what is empty before it.
        let last = lines[..lines.len() - 1].iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        for line in &lines[..last] {
            writeln!(out, "{line}")?;
        }
        Ok(exit::OK)
    }
}

/// Reads everything.
fn read(client: &Client) -> Result<Reading, CliError> {
    converse_silently(async {
        let (status, ports, counters) = (client.status().await?, client.ports().await?, client.counters().await?);
        Ok(Reading { status, ports, counters, latency: latency(&client.metrics().await?) })
    })
}

/// Shows readings until a key ends it.
fn watch(
    client: &Client,
    first: Reading,
    interval: Duration,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), CliError> {
    let mut screen =
        Screen { has_colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()), ..Screen::default() };
    let (mut before, mut at, mut shown) = (first, Instant::now(), Rates::default());
    shown.taps = rates(&before, &before, Duration::ZERO).taps;
    loop {
        terminal.draw(|frame| screen.draw(&before, &shown, now(), frame))?;
        // While it is paused, only keys matter; but a terminal that is gone is noticed all the same.
        if is_gone(if screen.is_paused { interval } else { interval.saturating_sub(at.elapsed()) })? {
            return Ok(());
        }
        while event::poll(Duration::ZERO)? {
            let rows = Screen::rows(terminal.size()?.height);
            if let Event::Key(key) = event::read()?
                && !apply(action(key), &mut screen, shown.taps.len(), rows)
            {
                return Ok(());
            }
        }
        if screen.is_paused || at.elapsed() < interval {
            continue;
        }
        match read(client) {
            Ok(after) => {
                shown = rates(&before, &after, at.elapsed());
                (before, screen.problem) = (after, None);
            }
            Err(error) => screen.problem = Some(error_text::chain(&error)),
        }
        at = Instant::now();
    }
}

/// Waits until there may be an event of the terminal, at most for this time, and tells whether the terminal is gone: the other side has
/// hung up, as when a connection ends. `event::poll` would take the end of its input for something to read, over and over.
fn is_gone(longest: Duration) -> Result<bool, CliError> {
    let stdin = io::stdin();
    let mut terminal = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut terminal, PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX)) {
        Ok(_) => {
            let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
            Ok(terminal[0].revents().is_some_and(|events| events.intersects(gone)))
        }
        // The window has another size.
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// Returns what a key does.
fn action(key: KeyEvent) -> Action {
    if key.kind == KeyEventKind::Release {
        return Action::Nothing;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Action::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Action::Quit,
        KeyCode::Char('p' | ' ') => Action::Pause,
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        _ => Action::Nothing,
    }
}

/// Does it to a screen with so many taps and lines for them. Returns whether it goes on.
fn apply(action: Action, screen: &mut Screen, taps: usize, rows: usize) -> bool {
    match action {
        Action::Quit => return false,
        Action::Pause => screen.is_paused = !screen.is_paused,
        Action::Sort => screen.order = screen.order.next(),
        Action::Up => screen.skipped = screen.skipped.saturating_sub(1),
        Action::Down => screen.skipped = (screen.skipped + 1).min(taps.saturating_sub(rows)),
        Action::Nothing => {}
    }
    true
}

/// Returns a frame as text, without blanks at the ends of lines.
fn lines_of(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width).max(1);
    let lines = buffer.content.chunks(width).map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_quit_pause_sort_and_scroll_within_bounds() {
        let mut screen = Screen::default();
        for (code, expected) in [
            (KeyCode::Char('q'), Action::Quit),
            (KeyCode::Esc, Action::Quit),
            (KeyCode::Char('p'), Action::Pause),
            (KeyCode::Char('s'), Action::Sort),
            (KeyCode::Up, Action::Up),
            (KeyCode::Down, Action::Down),
            (KeyCode::Char('c'), Action::Nothing),
        ] {
            assert_eq!(action(KeyEvent::new(code, KeyModifiers::NONE)), expected, "{code:?}");
        }
        assert_eq!(action(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Action::Quit);
        for _ in 0..9 {
            assert!(apply(Action::Down, &mut screen, 20, 18));
        }
        assert_eq!(screen.skipped, 2);
        for _ in 0..9 {
            assert!(apply(Action::Up, &mut screen, 20, 18));
        }
        assert!(apply(Action::Pause, &mut screen, 0, 0) && screen.is_paused && screen.skipped == 0);
        assert!(apply(Action::Sort, &mut screen, 0, 0) && screen.order == reading::Order::Drops);
        assert!(!apply(Action::Quit, &mut screen, 0, 0));
    }
}

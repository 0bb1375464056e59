//! Bars with rate and time left on stderr; plain lines when stderr is no terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One long job's progress.
pub struct Bar {
    bar: ProgressBar,
    title: String,
    plain: bool,
    quiet: bool,
    started: Instant,
    said: Mutex<Instant>,
}

/// Seconds between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

impl Bar {
    /// A bar for `total` units named `unit`; 0 when the total is not known.
    pub fn new(title: &str, total: u64, unit: &str, quiet: bool) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let target = if plain || quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = if total == 0 { ProgressBar::new_spinner() } else { ProgressBar::new(total) };
        bar.set_draw_target(target);
        let template = if total == 0 {
            format!("{{prefix:<22}} {{spinner}} {{human_pos}} {unit}  {{per_sec}}  {{elapsed}} {{msg}}")
        } else {
            format!(
                "{{prefix:<22}} {{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left {{msg}}"
            )
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_prefix(title.to_owned());
        let now = Instant::now();
        Self { bar, title: title.to_owned(), plain, quiet, started: now, said: Mutex::new(now) }
    }

    /// Where the job is.
    pub fn at(&self, done: u64) {
        self.bar.set_position(done);
        if !self.plain || self.quiet {
            return;
        }
        // Of several threads one speaks; the others need not wait.
        let Ok(mut said) = self.said.try_lock() else { return };
        if said.elapsed() >= EVERY {
            *said = Instant::now();
            self.say(done);
        }
    }

    /// A word at the end of the bar.
    pub fn note(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// A line that stays above the bar.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{}: {}", self.title, text.as_ref()));
        }
    }

    fn say(&self, done: u64) {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = done as f64 / seconds.max(1e-9);
        let left = match self.bar.length() {
            Some(total) if total > done && rate > 0.0 => {
                format!(", {:.0} s left", (total - done) as f64 / rate)
            }
            _ => String::new(),
        };
        eprintln!("{}: {done} ({rate:.0}/s{left}) {}", self.title, self.bar.message());
    }

    /// Ends the bar with one line that stays.
    pub fn done(self, line: impl AsRef<str>) {
        self.bar.finish_and_clear();
        if !self.quiet {
            eprintln!("{:<22} {} ({:.1} s)", self.title, line.as_ref(), self.started.elapsed().as_secs_f64());
        }
    }
}

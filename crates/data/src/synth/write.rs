//! A world as files: users, items, events, and the configuration to rebuild the truth from.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::Error;

use super::{LogEvent, World, WorldConfig, vocab};

/// Version of the generator: raised whenever the same configuration would give another world.
const GENERATOR: u32 = 1;
const WORLD_FILE: &str = "world.toml";
/// Progress is told once per this many events.
const REPORT_EVERY: u64 = 1 << 14;

/// Form of the three tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// `users.csv`, `items.csv`, `events.csv`.
    Csv,
    /// The same with `.gz`.
    CsvGz,
    /// The same with `.zst`.
    CsvZst,
}

impl FileFormat {
    /// What follows the table's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::CsvGz => "csv.gz",
            Self::CsvZst => "csv.zst",
        }
    }
}

/// What [`write_world`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `user_id,region,language,age_band,gender,registered_ms`.
    pub users: PathBuf,
    /// `item_id,title,category,author,kind,region,language,price,created_ms,retired_ms`;
    /// `retired_ms` is empty for items that outlive the run.
    pub items: PathBuf,
    /// `time_ms,user_id,item_id,event,value,request_id,position` in the order of time; position
    /// counts from 0; an action carries the request and position of its impression.
    pub events: PathBuf,
    /// The configuration, for [`World::open`].
    pub world: PathBuf,
    /// Rows of `events`, impressions included.
    pub event_rows: u64,
}

/// `world.toml`: the configuration and the generator it is for.
#[derive(Serialize, Deserialize)]
struct Header {
    generator: u32,
    world: toml::Table,
}

/// Writes a world and its log into a folder, which is made if need be; files of the same names are
/// replaced once all of the new ones are whole. `progress` is told the number of events written so far.
///
/// # Errors
/// [`Error::Io`] naming the file; the folder then holds what it held before.
pub fn write_world(
    world: &World,
    dir: &Path,
    format: FileFormat,
    progress: &mut dyn FnMut(u64),
) -> Result<Written, Error> {
    fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
    let table = |name: &str| dir.join(format!("{name}.{}", format.extension()));
    let (users, items, events) = (table("users"), table("items"), table("events"));
    let mut event_rows = 0;
    let text = header(world)?;
    let truth = dir.join(WORLD_FILE);
    let drafts = [
        Draft::write(&users, format, |out| write_users(world, out))?,
        Draft::write(&items, format, |out| write_items(world, out))?,
        Draft::write(&events, format, |out| {
            event_rows = write_events(world, out, progress)?;
            Ok(())
        })?,
        Draft::write(&truth, FileFormat::Csv, |out| out.write_all(text.as_bytes()))?,
    ];
    drafts.into_iter().try_for_each(Draft::keep)?;
    // The names are durable once the folder is.
    let folder = File::open(dir).and_then(|d| d.sync_all());
    folder.map_err(|e| Error::io(dir, e))?;
    Ok(Written { users, items, events, world: truth, event_rows })
}

impl World {
    /// Rebuilds the world of a folder written by [`write_world`].
    ///
    /// # Errors
    /// [`Error::Io`] when `world.toml` cannot be read, [`Error::Config`] when it is not a world's,
    /// [`Error::Corrupt`] when another version of the generator made it.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(WORLD_FILE);
        let text = fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
        let source = path.display().to_string();
        let parse = |message: String| Error::config(format!("{source}: {}", message.replace('\n', " ")));
        let header: Header = toml::from_str(&text).map_err(|e| parse(e.message().to_owned()))?;
        if header.generator != GENERATOR {
            let reason = format!(
                "made by world generator {}, this program has generator {GENERATOR}; make the folder again",
                header.generator
            );
            return Err(Error::corrupt(path, reason));
        }
        let world = toml::to_string(&header.world).map_err(|e| parse(e.to_string()))?;
        Self::new(&WorldConfig::from_toml(&world, &source)?)
    }
}

fn header(world: &World) -> Result<String, Error> {
    let config = world.config();
    let unwritable = |e: String| Error::config(format!("world config has no TOML form: {e}"));
    let header = Header {
        generator: GENERATOR,
        world: toml::Table::try_from(config).map_err(|e| unwritable(e.to_string()))?,
    };
    let text = toml::to_string(&header).map_err(|e| unwritable(e.to_string()))?;
    Ok(format!("# The world behind this folder; the true click probabilities are rebuilt from it.\n{text}"))
}

/// A whole, synced file beside its final place; removed when dropped.
struct Draft {
    path: PathBuf,
    draft: PathBuf,
}

impl Draft {
    fn write(
        path: &Path,
        format: FileFormat,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Self, Error> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let draft = Self { path: path.to_owned(), draft: name.into() };
        write_draft(&draft.draft, format, fill).map_err(|e| Error::io(path, e))?;
        Ok(draft)
    }

    fn keep(self) -> Result<(), Error> {
        fs::rename(&self.draft, &self.path).map_err(|e| Error::io(&self.path, e))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already when it was kept; otherwise there is an error to tell, and this is not it.
        let _ = fs::remove_file(&self.draft);
    }
}

fn write_draft(
    draft: &Path,
    format: FileFormat,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let file = BufWriter::with_capacity(1 << 18, File::create(draft)?);
    let file = match format {
        FileFormat::Csv => {
            let mut out = file;
            fill(&mut out)?;
            out
        }
        FileFormat::CsvGz => {
            let encoder = GzEncoder::new(file, flate2::Compression::fast());
            let mut out = BufWriter::with_capacity(1 << 16, encoder);
            fill(&mut out)?;
            out.into_inner().map_err(|e| e.into_error())?.finish()?
        }
        FileFormat::CsvZst => {
            let encoder = zstd::Encoder::new(file, 3)?;
            let mut out = BufWriter::with_capacity(1 << 16, encoder);
            fill(&mut out)?;
            out.into_inner().map_err(|e| e.into_error())?.finish()?
        }
    };
    file.into_inner().map_err(|e| e.into_error())?.sync_all()
}

fn write_users(world: &World, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "user_id,region,language,age_band,gender,registered_ms")?;
    for (row, user) in (0..).zip(world.users()) {
        writeln!(
            out,
            "{},{},{},{},{},{}",
            vocab::user_id(row),
            vocab::region(user.region),
            vocab::language(user.language),
            vocab::age(user.age),
            vocab::gender(user.gender),
            user.registered_ms
        )?;
    }
    Ok(())
}

fn write_items(world: &World, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "item_id,title,category,author,kind,region,language,price,created_ms,retired_ms")?;
    for (row, item) in (0..).zip(world.items()) {
        write!(
            out,
            "{},{},{},a{:05},{},{},{},{:.2},{},",
            vocab::item_id(row),
            world.title(row),
            vocab::category(item.category),
            item.author,
            item.kind.as_str(),
            vocab::region(item.region),
            vocab::language(item.language),
            item.price,
            item.born_ms
        )?;
        if item.dies_ms < world.end_ms() {
            write!(out, "{}", item.dies_ms)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_events(world: &World, out: &mut dyn Write, progress: &mut dyn FnMut(u64)) -> io::Result<u64> {
    writeln!(out, "time_ms,user_id,item_id,event,value,request_id,position")?;
    let mut line = Vec::with_capacity(96);
    let mut rows = 0;
    for event in world.events() {
        line.clear();
        event_line(&event, &mut line)?;
        out.write_all(&line)?;
        rows += 1;
        if rows % REPORT_EVERY == 0 {
            progress(rows);
        }
    }
    progress(rows);
    Ok(rows)
}

fn event_line(event: &LogEvent, line: &mut Vec<u8>) -> io::Result<()> {
    digits(line, event.time_ms.unsigned_abs(), 1);
    line.extend_from_slice(b",u");
    digits(line, event.user.into(), 6);
    line.extend_from_slice(b",i");
    digits(line, event.item.into(), 7);
    line.push(b',');
    line.extend_from_slice(event.action.as_str().as_bytes());
    if event.value == 1.0 {
        line.extend_from_slice(b",1,r");
    } else {
        write!(line, ",{:.4},r", event.value)?;
    }
    digits(line, event.request.into(), 8);
    line.push(b',');
    digits(line, event.position.into(), 1);
    line.push(b'\n');
    Ok(())
}

/// Appends a number with at least `least` digits.
fn digits(line: &mut Vec<u8>, mut number: u64, least: usize) {
    let mut text = [b'0'; 20];
    let mut at = text.len();
    while number > 0 || text.len() - at < least {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    line.extend_from_slice(&text[at..]);
}

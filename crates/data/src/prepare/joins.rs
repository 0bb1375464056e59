//! Attributes of users and items, joined to the rows of a table by id. The side files are held in memory.

use std::path::Path;

use millstream_schema::{Frame, parse};
use rapidhash::RapidHashMap;

use super::frames::{column, paths, waves};
use crate::Error;
use crate::config::{CatalogueFiles, Dataset};

/// The side files of a table.
pub(super) struct Joins(Vec<Attributes>);

/// One side's attributes by id.
struct Attributes {
    /// `users` or `items`, for messages.
    name: &'static str,
    /// Column of the table that holds the id.
    key: String,
    columns: Vec<String>,
    rows: RapidHashMap<String, u32>,
    /// Without the id; line and source as in the file.
    cells: Frame,
}

impl Joins {
    /// Reads the files of `[dataset.users]` and `[dataset.items]`; `None` where a table has none.
    ///
    /// # Errors
    /// A file that cannot be read, no such id column, an id that is missing or there twice.
    pub(super) fn read(folder: &Path, dataset: &Dataset) -> Result<Option<Self>, Error> {
        let Some(table) = &dataset.table else { return Ok(None) };
        let sides = [("users", &dataset.users, &table.user), ("items", &dataset.items, &table.item)];
        let read = |(name, files, key): (_, &Option<CatalogueFiles>, &Option<String>)| {
            let (files, key) = files.as_ref().zip(key.as_ref())?;
            Some(Attributes::read(folder, name, files, key))
        };
        let found: Vec<Attributes> = sides.into_iter().filter_map(read).collect::<Result<_, _>>()?;
        Ok((!found.is_empty()).then_some(Self(found)))
    }

    /// The frame with each row's attributes behind its own cells; an id that no file has gives missing cells.
    ///
    /// # Errors
    /// No such key column, or a column that is there twice.
    pub(super) fn widen(&self, frame: &Frame) -> Result<Frame, Error> {
        let mut names = frame.columns().to_vec();
        let mut keys = Vec::with_capacity(self.0.len());
        for side in &self.0 {
            let key = if side.name == "users" { "user" } else { "item" };
            keys.push(column(frame, &side.key, &format!("[dataset.table] {key}"))?);
            if let Some(twin) = side.columns.iter().find(|c| names.contains(c)) {
                return Err(Error::Config(format!(
                    "[dataset.{}]: column `{twin}` is already in {}; name the columns by `columns`",
                    side.name,
                    frame.source()
                )));
            }
            names.extend_from_slice(&side.columns);
        }
        let mut out = Frame::new(frame.source(), &names);
        let mut cells: Vec<&str> = Vec::with_capacity(names.len());
        for row in 0..frame.rows() {
            cells.clear();
            cells.extend((0..frame.columns().len()).map(|c| frame.get(row, c)));
            for (side, &key) in self.0.iter().zip(&keys) {
                side.extend(frame.get(row, key).trim(), &mut cells);
            }
            out.push_row(frame.line(row), &cells);
        }
        Ok(out)
    }
}

impl Attributes {
    fn read(folder: &Path, name: &'static str, files: &CatalogueFiles, key: &str) -> Result<Self, Error> {
        let mut found: Option<Self> = None;
        waves(&paths(folder, &files.files), &files.log_format(), |pieces| {
            for piece in pieces {
                let frame = &piece.frame;
                let id = column(frame, &files.id, &format!("[dataset.{name}] id"))?;
                let side = found.get_or_insert_with(|| Self::empty(name, key, frame, id));
                side.take(frame, id)?;
            }
            Ok(())
        })?;
        found.ok_or_else(|| Error::Config(format!("[dataset.{name}]: the files have no row")))
    }

    fn empty(name: &'static str, key: &str, frame: &Frame, id: usize) -> Self {
        let mut columns = frame.columns().to_vec();
        columns.remove(id);
        let cells = Frame::new(frame.source(), &columns);
        Self { name, key: key.to_owned(), columns, rows: RapidHashMap::default(), cells }
    }

    fn take(&mut self, frame: &Frame, id: usize) -> Result<(), Error> {
        let places = self.columns.iter().map(|c| column(frame, c, &format!("[dataset.{}]", self.name)));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let mut cells = Vec::with_capacity(places.len());
        for row in 0..frame.rows() {
            let name = frame.get(row, id).trim();
            let fault = |reason: String| Err(Error::Input { place: frame.place(row), reason });
            if name.is_empty() {
                return fault("the id is missing".into());
            }
            if self.rows.insert(name.to_owned(), self.cells.rows() as u32).is_some() {
                return fault(format!("id {} is there twice in [dataset.{}]", parse::short(name), self.name));
            }
            cells.clear();
            cells.extend(places.iter().map(|&c| frame.get(row, c)));
            self.cells.push_row(frame.line(row), &cells);
        }
        Ok(())
    }

    /// Adds the cells of `id`.
    fn extend<'a>(&'a self, id: &str, cells: &mut Vec<&'a str>) {
        match self.rows.get(id) {
            Some(&row) => cells.extend((0..self.columns.len()).map(|c| self.cells.get(row as usize, c))),
            None => cells.extend(self.columns.iter().map(|_| "")),
        }
    }
}
